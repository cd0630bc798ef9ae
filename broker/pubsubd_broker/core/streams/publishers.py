"""What each publisher was answered last, so that a retry is answered the same and placed once.

Only a batch that is marked as a retry is looked up. A new batch under an answered sequence comes from a second holder of
the same id, such as a copy of the publisher's process: an old answer would be a receipt for a message that is not stored.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping

from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Receipt, Rejected

Outcome = Receipt | Rejected

Refuse = Callable[[str, str], None]
"""Ends a connection with a code and a sentence."""


class Promise:
    """The answer to a batch that has its place, before anybody may know of it. `wake`: once it is settled."""

    __slots__ = ("outcome", "wake")

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.wake: list[Callable[[], None]] = []

    def settle(self, outcome: Outcome) -> None:
        self.outcome = outcome
        for wake in self.wake:
            wake()
        self.wake.clear()


Answer = Outcome | Promise


class Publisher:
    """One publisher's newest outcomes, at most `window` of them."""

    __slots__ = (
        "_holder",
        "_outcomes",
        "_window",
        "connections",
        "elsewhere",
        "forgotten",
        "last",
        "user",
    )

    def __init__(self, window: int, *, forgotten: bool = False, elsewhere: bool = False) -> None:
        self._window = window
        self._outcomes: OrderedDict[int, Answer] = OrderedDict()
        self.forgotten = forgotten
        """Whether an earlier record of it, in this same life of the broker, has been dropped."""
        self.elsewhere = elsewhere
        """Whether it spoke to another life of the broker: what it retries may be in that one's stream."""
        self.last = -1
        """The highest sequence answered."""
        self.connections = 0
        self.user = ""
        """Whose it is, as far as that is known."""
        self._holder: tuple[int, Refuse] | None = None
        """The connection that publishes under this id: when it was opened, and how it is ended."""

    def take_over(self, opened_ns: int, refuse: Refuse) -> None:
        """One connection publishes under an id. Of two the one that was opened later stays.

        Not the one that greeted later: a broker that stood still may find the greeting of a dead connection last.
        """
        older, mine = self._holder, (opened_ns, refuse)
        if older is not None and older[0] > opened_ns:
            older, mine = mine, older
        self._holder = mine
        if older is not None:
            older[1]("replaced", "another connection publishes under this id")

    def let_go(self, refuse: Refuse) -> None:
        """The connection that is ended by `refuse` is gone."""
        if self._holder is not None and self._holder[1] == refuse:
            self._holder = None

    def recall(self, sequence: int, retry: bool) -> Answer | None:
        """The answer that a retry of `sequence` got before; None if the batch is new and has to be judged now.

        What can't be known any more is answered "unknown", never guessed. Raises `ProtocolError` for a new batch under a
        sequence that is answered already.
        """
        if not retry:
            if sequence <= self.last:
                raise ProtocolError(
                    "sequence",
                    f"batch {sequence} is not marked as a retry, and batch {self.last} of this publisher id is answered "
                    "already: a copy of a process needs an id of its own",
                )
            return None
        outcome = self._outcomes.get(sequence)
        if outcome is not None:
            # Once it is settled nobody is to wait there for it.
            return (outcome.outcome or outcome) if isinstance(outcome, Promise) else outcome
        if sequence <= self.last or self.forgotten:
            detail = (
                f"the outcome of batch {sequence} is no longer remembered (the last {self._window} are): "
                "it may or may not be in the stream"
            )
            return Rejected(sequence, "unknown", detail)
        return None

    def refuse(
        self,
        batch: Batch,
        code: str,
        detail: str,
        size: int | None = None,
        limit: int | None = None,
    ) -> Rejected:
        """The refusal of `batch`; of a retry from another life only that nobody can say what has become of it."""
        if batch.retry and self.elsewhere:
            code, size, limit = "unknown", None, None
            detail = (
                f"refused now ({detail}), but an earlier life of this broker may have accepted it"
            )
        return Rejected(batch.sequence, code, detail, size, limit)

    def remember(self, sequence: int, outcome: Answer) -> None:
        self.last = max(self.last, sequence)
        self._outcomes[sequence] = outcome
        if len(self._outcomes) > self._window:
            self._outcomes.popitem(last=False)


class Publishers:
    """The table of publishers: at most `limit` of those that are away.

    Of the user who has most of them the least recently used is dropped: nobody drives out what is another's.
    """

    __slots__ = ("_away", "_connected", "_limit", "_of_user", "_window", "forgotten")

    def __init__(self, limit: int, window: int) -> None:
        self._limit = limit
        self._window = window
        self._connected: dict[bytes, Publisher] = {}
        self._away: OrderedDict[bytes, Publisher] = OrderedDict()
        self._of_user: Counter[str] = Counter()
        self.forgotten = 0
        """How many records have been dropped."""

    def __len__(self) -> int:
        return len(self._connected) + len(self._away)

    def connect(
        self, publisher_id: bytes, *, same_life: bool, other_life: bool = False, user: str = ""
    ) -> Publisher:
        """The record of a publisher that connects, and which life of the broker it spoke to before, if any."""
        publisher = self._connected.get(publisher_id) or self._take_back(publisher_id)
        if publisher is None:
            publisher = Publisher(self._window, forgotten=same_life, elsewhere=other_life)
        publisher.user = user
        self._connected[publisher_id] = publisher
        publisher.connections += 1
        return publisher

    def lasts(self) -> dict[bytes, int]:
        """The highest sequence that each was answered, the one that was heard of longest ago first."""
        known = (*self._away.items(), *self._connected.items())
        return {publisher_id: each.last for publisher_id, each in known if each.last >= 0}

    def restore(self, lasts: Mapping[bytes, int], placed: Iterable[tuple[Entry, int]]) -> None:
        """Begins with what an earlier life answered: `placed` are the entries that are left, and their sequences."""
        for publisher_id, last in lasts.items():
            self._restored(publisher_id).last = last
        for entry, sequence in placed:
            receipt = Receipt(sequence, entry.epoch, entry.first)
            self._restored(entry.publisher).remember(sequence, receipt)

    def _restored(self, publisher_id: bytes) -> Publisher:
        publisher = self._take_back(publisher_id) or Publisher(self._window, elsewhere=True)
        self._put_away(publisher_id, publisher)
        return publisher

    def disconnect(self, publisher_id: bytes) -> None:
        publisher = self._connected[publisher_id]
        publisher.connections -= 1
        if publisher.connections == 0:
            del self._connected[publisher_id]
            self._put_away(publisher_id, publisher)

    def _put_away(self, publisher_id: bytes, publisher: Publisher) -> None:
        self._away[publisher_id] = publisher
        self._of_user[publisher.user] += 1
        if len(self._away) > self._limit:
            ((most, _),) = self._of_user.most_common(1)
            self._take_back(next(i for i, each in self._away.items() if each.user == most))
            self.forgotten += 1

    def _take_back(self, publisher_id: bytes) -> Publisher | None:
        publisher = self._away.pop(publisher_id, None)
        if publisher is not None:
            self._of_user[publisher.user] -= 1
            if not self._of_user[publisher.user]:
                del self._of_user[publisher.user]
        return publisher
