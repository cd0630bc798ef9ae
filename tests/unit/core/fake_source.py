"""A peer's stream as a session sees it, played by a test: a log at hand, and a producer that is asked."""

from __future__ import annotations

from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.pacing import Pace, Pacing
from pubsubd_broker.core.streams.fetching import LaggingReader
from pubsubd_protocol.attach import Claim, Verdict, resolve
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
        self.origin = log.end_position
        self.fetches: list[tuple[LaggingReader, Claim]] = []
        self.asked: list[Claim] = []
        self.budgets: list[int] = []
        self.caught: list[Claim] = []

    def answer(self, claim: Claim) -> tuple[StreamView, Verdict] | None:
        return None

    def fetch(self, reader: LaggingReader, claim: Claim, budget: int) -> bool:
        if self.reachable:
            self.fetches.append((reader, claim))
            self.asked.append(claim)
            self.budgets.append(budget)
        return self.reachable

    def caught_up(self, reader: LaggingReader, claim: Claim) -> None:
        self.caught.append(claim)

    def reply(self, held: StreamView, *items: Entry | Skip) -> None:
        """The producer answers the oldest question, by the rule, out of what it holds."""
        reader, claim = self.fetches.pop(0)
        reader.fetched(claim, held, resolve(claim, held), list(items))
