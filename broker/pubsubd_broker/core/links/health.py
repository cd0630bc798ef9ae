"""Health: which producers the broker does not hear now, and since when. Every session is told of each change."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from pubsubd_broker.core.limits import MS_NS
from pubsubd_protocol.fields import MAX_STREAMS


class ProducerHealth:
    """The producers whose link is down. `version` rises with each change, so that a session knows what it has told."""

    __slots__ = ("_lost_ns", "_started_ns", "version")

    def __init__(self, started_ns: int) -> None:
        """`started_ns`: when this life of the broker began."""
        self._started_ns = started_ns
        self._lost_ns: dict[str, int] = {}
        self.version = 0

    def lost(self, producer: str, now_ns: int) -> None:
        """The link to `producer` is down."""
        if producer not in self._lost_ns:
            self._lost_ns[producer] = now_ns
            self.version += 1

    def heard(self, producer: str) -> None:
        """`producer` has answered an attach."""
        self._lost_ns.pop(producer, None)
        # Also at the first contact: a session that named it was told that it is not heard.
        self.version += 1

    def lost_ns(self, producer: str) -> int | None:
        """Time at which the link to `producer` was lost; None if this life of the broker has not met it, or hears it."""
        return self._lost_ns.get(producer)

    def forget(self, producer: str) -> None:
        """The broker knows `producer` no more. A session that has a place in its stream names it on its own account."""
        self._lost_ns.pop(producer, None)
        self.version += 1

    def report(self, named: Iterable[str], now_ns: int) -> dict[str, int]:
        """Milliseconds since the loss of each producer that is not heard; at most `MAX_STREAMS`, as a frame holds.

        Producers that this life has met come first. `named`: producers that the session knows and this life has not met.
        """
        lost_ns = self._lost_ns | dict.fromkeys(sorted(named), self._started_ns)
        told = islice(lost_ns.items(), MAX_STREAMS)
        return {node: max(0, now_ns - at_ns) // MS_NS for node, at_ns in told}
