"""Receive share: the memory that one connection takes for large frames, out of a quota of all connections together.

Each connection has a buffer of `BUFFER_BYTES`. Without a common bound, as many connections as there may be could each leave
one large frame half sent.
"""

from __future__ import annotations

from pubsubd_broker.core.access.quota import Claimant, Quota
from pubsubd_protocol.framing import BUFFER_BYTES, FrameReader


class ReceiveShare:
    """The share of one connection. `held`: bytes of the quota that it has taken."""

    __slots__ = ("_claimant", "_quota", "held")

    def __init__(self, quota: Quota, claimant: Claimant) -> None:
        self._quota = quota
        self._claimant = claimant
        self.held = 0

    def hold(self, reader: FrameReader, kept: int) -> str | None:
        """Takes the memory of `reader`, and of `kept` bytes beside it, beyond the usual buffer of each.

        Returns the refusal if the quota has no room; then the share is given back, and the memory of `reader`.
        """
        reader.shrink()
        wanted = max(0, reader.size - BUFFER_BYTES) + max(0, kept - BUFFER_BYTES)
        if self._change(wanted):
            return None
        refusal = (
            f"no room for a frame of {reader.awaited} bytes; "
            f"bytes of unfinished large frames: {self._quota.taken(self._claimant)}"
        )
        reader.release()
        self._change(0)
        return refusal

    def _change(self, wanted: int) -> bool:
        changed = self._quota.change(self._claimant, self.held, wanted)
        if changed:
            self.held = wanted
        return changed
