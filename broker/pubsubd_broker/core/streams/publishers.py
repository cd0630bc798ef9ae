"""The last answers of each publisher: a retry gets the same answer, and its batch is placed once.

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

TurnAway = Callable[[str, str], None]
"""Ends a connection with a code and a sentence."""


class Promise:
    """The answer to a placed batch that is not on disk yet. `wake`: called once the promise is settled."""

    __slots__ = ("outcome", "wake")

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.wake: list[Callable[[], None]] = []

    def settle(self, outcome: Outcome) -> None:
        self.outcome = outcome
        for wake in self.wake:
            wake()
        self.wake.clear()


PublishAnswer = Outcome | Promise


class PublisherRecord:
    """The newest outcomes of a publisher, at most `window` of them."""

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
        self._outcomes: OrderedDict[int, PublishAnswer] = OrderedDict()
        self.forgotten = forgotten
        """Whether answers to the publisher may be missing: this life has dropped its record, or found no record of it."""
        self.elsewhere = elsewhere
        """Whether the publisher spoke to another life of the broker, which may have placed the batch that is retried."""
        self.last = -1
        """The highest sequence answered."""
        self.connections = 0
        self.user = ""
        """The user that owns the record; empty if that is not known."""
        self._holder: tuple[int, TurnAway] | None = None
        """The connection that publishes under this id: the time at which it was opened, and the callable that ends it."""

    def take_over(self, opened_ns: int, refuse: TurnAway) -> None:
        """Keeps one connection under this id. Of two the one that was opened later stays.

        The order of greetings does not count: a broker that stood still may read the greeting of a dead connection last.
        """
        older, mine = self._holder, (opened_ns, refuse)
        if older is not None and older[0] > opened_ns:
            older, mine = mine, older
        self._holder = mine
        if older is not None:
            older[1]("replaced", "another connection publishes under this id")

    def let_go(self, refuse: TurnAway) -> None:
        """Forgets the connection that `refuse` ends: it is gone."""
        if self._holder is not None and self._holder[1] == refuse:
            self._holder = None

    def earlier_answer(self, sequence: int, retry: bool) -> PublishAnswer | None:
        """The earlier answer to a retry of `sequence`; None if the batch is new and has to be judged now.

        A forgotten answer is given as "unknown", never guessed. Raises `ProtocolError` for a new batch under a sequence that
        is answered already.
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
            # A settled promise wakes no further waiter.
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
        """The rejection of `batch`. A retry from an earlier life of the broker is answered `unknown`."""
        if batch.retry and self.elsewhere:
            code, size, limit = "unknown", None, None
            detail = (
                f"refused now ({detail}), but an earlier life of this broker may have accepted it"
            )
        return Rejected(batch.sequence, code, detail, size, limit)

    def remember(self, sequence: int, outcome: PublishAnswer) -> None:
        self.last = max(self.last, sequence)
        self._outcomes[sequence] = outcome
        if len(self._outcomes) > self._window:
            self._outcomes.popitem(last=False)


class Publishers:
    """The table of publishers: the connected ones, and at most `limit` that are away.

    Drops the least recently used record of the user that has most: no user drives out the records of another.
    """

    __slots__ = ("_away", "_connected", "_limit", "_of_user", "_partial", "_window", "forgotten")

    def __init__(self, limit: int, window: int) -> None:
        self._limit = limit
        self._window = window
        self._connected: dict[bytes, PublisherRecord] = {}
        self._away: OrderedDict[bytes, PublisherRecord] = OrderedDict()
        self._of_user: Counter[str] = Counter()
        # Whether earlier lives of the history that goes on have answered publishers without a record here.
        self._partial = False
        self.forgotten = 0
        """The number of records that have been dropped."""

    def __len__(self) -> int:
        return len(self._connected) + len(self._away)

    def connect(
        self, publisher_id: bytes, *, same_life: bool, other_life: bool = False, user: str = ""
    ) -> PublisherRecord:
        """The record of a publisher that connects. `same_life`, `other_life`: the broker's life that it spoke to before."""
        publisher = self._connected.get(publisher_id) or self._take_back(publisher_id)
        if publisher is None:
            forgotten = same_life or (other_life and self._partial)
            publisher = PublisherRecord(self._window, forgotten=forgotten, elsewhere=other_life)
        publisher.user = user
        self._connected[publisher_id] = publisher
        publisher.connections += 1
        return publisher

    def lasts(self) -> dict[bytes, int]:
        """The highest answered sequence of each publisher, the one heard of longest ago first."""
        known = (*self._away.items(), *self._connected.items())
        return {publisher_id: each.last for publisher_id, each in known if each.last >= 0}

    def restore(
        self,
        lasts: Mapping[bytes, int],
        placed: Iterable[tuple[Entry, int]],
        *,
        partial: bool = False,
    ) -> None:
        """Begins with the answers of an earlier life. `placed`: the entries that are left, and their sequences.

        `partial`: that life may have answered other publishers, too. A retry of theirs is answered "unknown".
        """
        self._partial = partial
        for publisher_id, last in lasts.items():
            self._restored(publisher_id).last = last
        for entry, sequence in placed:
            receipt = Receipt(sequence, entry.epoch, entry.first)
            self._restored(entry.publisher).remember(sequence, receipt)

    def _restored(self, publisher_id: bytes) -> PublisherRecord:
        publisher = self._take_back(publisher_id) or PublisherRecord(self._window, elsewhere=True)
        self._put_away(publisher_id, publisher)
        return publisher

    def disconnect(self, publisher_id: bytes) -> None:
        publisher = self._connected[publisher_id]
        publisher.connections -= 1
        if publisher.connections == 0:
            del self._connected[publisher_id]
            self._put_away(publisher_id, publisher)

    def _put_away(self, publisher_id: bytes, publisher: PublisherRecord) -> None:
        self._away[publisher_id] = publisher
        self._of_user[publisher.user] += 1
        if len(self._away) > self._limit:
            ((most, _),) = self._of_user.most_common(1)
            self._take_back(next(i for i, each in self._away.items() if each.user == most))
            self.forgotten += 1

    def _take_back(self, publisher_id: bytes) -> PublisherRecord | None:
        publisher = self._away.pop(publisher_id, None)
        if publisher is not None:
            self._of_user[publisher.user] -= 1
            if not self._of_user[publisher.user]:
                del self._of_user[publisher.user]
        return publisher
