"""The addresses of peers, and when to dial each again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.core.links.liveness import BACKOFF_FIRST_NS, BACKOFF_LONGEST_NS
from pubsubd_protocol.addresses import Address, format_address
from pubsubd_protocol.backoff import backoff

SELF_AGAIN_NS: Final = 60 * SECOND_NS
"""The wait before an address is dialled again at which this node itself has answered."""


class Target:
    """An address at which a peer is said to be."""

    __slots__ = (
        "address",
        "attempts",
        "dialling",
        "due_ns",
        "error",
        "is_self",
        "linked",
        "node",
        "reached",
        "reconnects",
        "recovers",
    )

    def __init__(self, address: Address) -> None:
        self.address = address
        self.node: str | None = None
        """The node that answered there last."""
        self.linked = False
        """Whether a connection to it is open."""
        self.dialling = False
        self.attempts = 0
        self.due_ns = 0
        self.reached = False
        """Whether a node was met there, ever."""
        self.is_self = False
        """Whether this node itself answered there: dialled again once in a while, for it may have been one in between."""
        self.recovers = False
        """Whether the node there asks its own peers for its stream: it serves no peer, and holds no replica."""
        self.reconnects = 0
        self.error: str | None = None
        """The reason for which no connection is open; None while one is."""

    @property
    def label(self) -> str:
        return format_address(self.address)

    def is_due(self, now_ns: int) -> bool:
        return not self.linked and not self.dialling and now_ns >= self.due_ns

    def fails(self, error: str) -> bool:
        """Notes the reason for which no connection is open. Returns whether that is news."""
        news, self.error = error != self.error, error
        return news

    def opened(self) -> None:
        self.dialling = False
        self.linked = True

    def attached(self, node: str) -> None:
        """A stream is being pulled from there: the next failure is a first one again."""
        if self.reached:
            self.reconnects += 1
        self.node = node
        self.reached = True
        self.is_self = False
        self.attempts = 0
        self.error = None

    def failed(self, now_ns: int, chance: float) -> None:
        """No connection there, or no more; `error` says why."""
        self.dialling = False
        self.linked = False
        wait_ns = backoff(BACKOFF_FIRST_NS, BACKOFF_LONGEST_NS, self.attempts, chance)
        self.due_ns = now_ns + (SELF_AGAIN_NS if self.is_self else int(wait_ns))
        self.attempts += 1


class DialTargets:
    """The targets of one node, each once."""

    __slots__ = ("_say", "_targets")

    def __init__(self, addresses: Iterable[Address], say: Callable[[str, str], None]) -> None:
        """`say`: is told the address and the cause where no link can be had."""
        self._targets = [Target(address) for address in dict.fromkeys(addresses)]
        self._say = say

    def __iter__(self) -> Iterator[Target]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> Target:
        return self._targets[index]

    def due(self, now_ns: int) -> list[Target]:
        """The targets to dial now. Each is being dialled from then on."""
        due = [target for target in self._targets if target.is_due(now_ns)]
        for target in due:
            target.dialling = True
        return due

    def dial_failed(self, target: Target, error: str, now_ns: int, chance: float) -> None:
        """Notes that no node answered there. `chance` in 0..1 spreads the next dials."""
        self.unreachable(target, error)
        target.is_self = False
        target.failed(now_ns, chance)

    def unreachable(self, target: Target, error: str) -> None:
        """No link to `target` can be had. Says it once, not at every attempt."""
        if target.fails(error):
            self._say(target.label, error)
