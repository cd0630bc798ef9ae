"""Large frames while they come in: what all connections together may hold of them.

Every connection has a buffer of up to `BUFFER_BYTES`, and a frame that is no longer than that always finds room. One
that is longer takes memory as its bytes arrive, and as many connections as there may be could each leave one half sent.
"""

from __future__ import annotations


class Receiving:
    """`bytes` are held beyond the usual buffers, `limit` may be."""

    __slots__ = ("bytes", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    def change(self, held: int, wanted: int) -> bool:
        """One that holds `held` bytes is going to hold `wanted`. False: there is no room, and nothing has changed."""
        if wanted > held and self.bytes + wanted - held > self.limit:
            return False
        self.bytes += wanted - held
        return True
