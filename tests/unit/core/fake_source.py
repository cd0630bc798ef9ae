"""A peer's stream as a session sees it, played by a test: a log at hand, and a producer that is asked."""

from __future__ import annotations

from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.pacing import Pace, Pacing
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_protocol.attach import Answer, Claim, resolve
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import StreamView


class FakeSource:
    """`fetches` is what was asked of the producer and not answered yet; `asked` all of it, ever."""

    def __init__(self, log: Log, node: str = "a", *, reachable: bool = True) -> None:
        self.node = node
        self.log = log
        self.pacing = Pacing(log, Pace(0))
        self.reachable = reachable
        self.fetches: list[tuple[Reading, Claim]] = []
        self.asked: list[Claim] = []
        self.budgets: list[int] = []
        self.caught: list[Claim] = []

    def answer(self, claim: Claim) -> tuple[StreamView, Answer] | None:
        return None

    def fetch(self, reading: Reading, claim: Claim, budget: int) -> bool:
        if self.reachable:
            self.fetches.append((reading, claim))
            self.asked.append(claim)
            self.budgets.append(budget)
        return self.reachable

    def caught_up(self, reading: Reading, claim: Claim) -> None:
        self.caught.append(claim)

    def reply(self, held: StreamView, *items: Entry | Skip) -> None:
        """The producer answers the oldest question, by the rule, out of what it holds."""
        reading, claim = self.fetches.pop(0)
        reading.fetched(claim, held, resolve(claim, held), list(items))
