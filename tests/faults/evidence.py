"""Makes the checkers' input from the applications' logs: what each reader saw, and what is known to be true.

Two things are known: the receipts of publishers, and messages that a reader saw whose publisher got no answer.
Offsets that no log names stay unknown; the checkers do not object to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.faults.application import Settings, payload_of
from tests.faults.logbook import Record
from tests.simulation import checkers, receipts
from tests.simulation.history import Got, History, Kept, Lost, Moved, Opened, Stands
from tests.simulation.truth import NOWHERE, Place, Published, StreamTruth, Truth
from tests.simulation.violation import Violation

from pubsubd_protocol.attach import Reason
from pubsubd_protocol.topics import Filter

UNKNOWN: Final = frozenset({"PublishUnknown"})
"""Errors after which a message may be in the stream. After any other error it is not."""

NEVER: Final = frozenset({"ProtocolError", "InvalidPosition", "InvalidTopic", "ClientClosed"})
"""Errors that no fault between two processes explains."""


@dataclass(slots=True)
class Attempt:
    """A message as its publisher knows it. `place`: node, epoch and offset of its receipt."""

    publisher: str
    node: str
    to: str | None
    topic: str
    payload: bytes
    time_ns: int
    place: tuple[str, str, int] | None = None
    error: str | None = None

    @property
    def refused(self) -> bool:
        return self.error is not None and self.error not in UNKNOWN

    @property
    def message(self) -> Published:
        return Published(self.topic, self.payload, self.publisher.encode(), self.to, self.time_ns)


@dataclass(slots=True)
class Log:
    """An application over all its lives: its settings, and its records."""

    settings: Settings
    records: list[Record] = field(default_factory=list)


def attempts_of(log: Log) -> list[Attempt]:
    """All that a publisher tried, in order, each with its receipt or error."""
    attempts: dict[tuple[int, int], list[Attempt]] = {}
    for record in log.records:
        match record:
            case {"attempt": number, "life": life, "payloads": payloads}:
                attempts[life, number] = [
                    Attempt(
                        f"{log.settings.name}.{life}",
                        log.settings.node,
                        record["to"],
                        record["topic"],
                        payload_of(text, size),
                        record["t"],
                    )
                    for text, size in payloads
                ]
            case {"outcome": number, "life": life, "told": told}:
                for attempt, outcome in zip(attempts[life, number], told, strict=True):
                    if isinstance(outcome, str):
                        attempt.error = outcome
                    else:
                        attempt.place = (outcome[0], outcome[1], outcome[2])
    return [attempt for batch in attempts.values() for attempt in batch]


def truth_of(
    epochs: Mapping[str, Sequence[str]],
    attempts: Iterable[Attempt],
    histories: Iterable[History],
    capacity: int | None,
) -> Truth:
    """Every stream, as far as it is known. `epochs`: the epochs of each node's lives, in order."""
    truth: Truth = {node: StreamTruth(capacity) for node in epochs}
    for node, lives in epochs.items():
        for epoch in lives:
            truth[node].begin(epoch)
    tried: dict[tuple[str, bytes], Attempt] = {}
    for attempt in attempts:
        tried[attempt.node, attempt.payload] = attempt
        if attempt.place is not None:
            _accept(truth, attempt)
    for history in histories:
        for event in history.events:
            if isinstance(event, Got):
                _see(truth[event.node], tried.get((event.node, event.payload)), event)
    return truth


def seen_by_publishers(attempts: Iterable[Attempt]) -> list[receipts.Published]:
    return [
        receipts.Published(
            attempt.publisher,
            attempt.node,
            (attempt.payload,),
            attempt.place[1] if attempt.place is not None else None,
            attempt.place[2] if attempt.place is not None else None,
            attempt.refused,
            None,
        )
        for attempt in attempts
    ]


def in_order(attempts: Iterable[Attempt]) -> None:
    """Raises unless the messages of one client in one life of its broker stand in the order of publishing."""
    last: dict[tuple[str, str], int] = {}
    for attempt in attempts:
        if attempt.place is not None:
            _, epoch, offset = attempt.place
            if offset <= last.get((attempt.publisher, epoch), -1):
                raise Violation(
                    f"order: {attempt.payload!r} of {attempt.publisher} stands at {offset} of {epoch}, "
                    "behind it what was published before"
                )
            last[attempt.publisher, epoch] = offset


def histories_of(log: Log) -> list[History]:
    """The history of each reader. A reader that keeps nothing is another reader after each restart."""
    settings = log.settings
    telling = _Telling(settings)
    for record in log.records:
        match record:
            case {"opened": presented, "resumed": resumed, "position": position, "t": time_ns}:
                telling.opened(time_ns, _places(presented or {}), resumed, _places(position))
            case {"got": [node, epoch, messages], "position": position}:
                if node not in telling.history.at:
                    telling.history.add(Stands(node, (epoch, messages[0][0])))
                for offset, topic, text, size in messages:
                    telling.history.add(Got(node, epoch, offset, topic, payload_of(text, size)))
                telling.look(_places(position))
            case {"lost": [node, reason, missed, epoch, offset], "before": before}:
                telling.look(_places(before))
                own = telling.lived_before and node == settings.node
                if own and node not in telling.history.at:
                    # The notice comes before the reader knows its place, which was in the history that its broker has
                    # forgotten.
                    telling.history.add(Stands(node, NOWHERE))
                telling.history.add(Lost(node, Reason(reason), missed, (epoch, offset), None, own))
            case {"failed": error} if error in NEVER:
                raise Violation(f"{settings.name} was told {error}: {record['text']}")
    return telling.histories


class _Telling:
    """The records of one reader, turned into a history."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.histories: list[History] = []
        self.lived_before = False
        """Whether its broker ever had to learn of this session from producers."""

    @property
    def history(self) -> History:
        return self.histories[-1]

    def opened(
        self, time_ns: int, presented: dict[str, Place], resumed: bool, position: dict[str, Place]
    ) -> None:
        if not self.histories or self._settings.keeps == "nothing":
            self._another()
            self.history.add(Opened(time_ns, Kept.NOTHING, {}))
        elif self._settings.keeps == "position":
            self.history.add(Opened(time_ns, Kept.STORED, presented))
        elif resumed and self._same_broker(position):
            # The reader may be told of offsets that it passes in the same step: then this is a move, not its
            # beginning.
            at = self.history.at
            begins = {
                n: min(p, at.get(n, p)) if _same(p, at.get(n)) else p for n, p in position.items()
            }
            self.history.add(Opened(time_ns, Kept.BROKER, begins))
        else:
            self.lived_before = True
            self.history.add(Opened(time_ns, Kept.PRODUCERS, {}))
        self.look(position)

    def look(self, position: dict[str, Place]) -> None:
        """The part of a position that the application can see, and the changes in it."""
        for node, place in position.items():
            at = self.history.at.get(node)
            if at is None:
                self.history.add(Stands(node, place))
            elif at != place:
                self.history.add(Moved(node, place))

    def _another(self) -> None:
        settings = self._settings
        wanted = Filter(tuple(settings.patterns))

        def wants(message: Published) -> bool:
            return wanted.wants(message.topic) and message.to in (None, settings.node)

        name = f"{settings.name} on {settings.node}, life {len(self.histories)}"
        self.histories.append(History(name, wants, earliest=settings.start == "earliest"))

    def _same_broker(self, position: dict[str, Place]) -> bool:
        """Whether its broker still lives the life that the reader last met: its own stream shows that."""
        own = self._settings.node
        return own in position and _same(position[own], self.history.at.get(own))


def check(
    epochs: Mapping[str, Sequence[str]],
    publishers: Iterable[Log],
    readers: Iterable[Log],
    capacity: int | None,
    extra: Iterable[Attempt] = (),
) -> tuple[list[Attempt], list[History]]:
    """Check the whole guarantee over the logs of one run.

    `extra`: messages that stand in no log. Raises `Violation`.
    """
    attempts = [*(attempt for log in publishers for attempt in attempts_of(log)), *extra]
    histories = [history for log in readers for history in histories_of(log)]
    for history in histories:
        _only_known_streams(history, epochs)
    truth = truth_of(epochs, attempts, histories, capacity)
    in_order(attempts)
    receipts.placed_as_told(seen_by_publishers(attempts), truth)
    # If all attempts together do not fill a ring, nothing was ever evicted.
    all_held = capacity is not None and len(attempts) <= capacity
    for history in histories:
        if all_held:
            _only_restarts(history)
        checkers.no_phantom(history, truth)
        checkers.no_duplicate(history)
        checkers.no_gap(history, truth)
        checkers.no_false_alarm(history, truth)
    return attempts, histories


def _accept(truth: Truth, attempt: Attempt) -> None:
    assert attempt.place is not None
    node, epoch, offset = attempt.place
    if node != attempt.node or epoch not in truth[node].messages:
        raise Violation(
            f"G2: {attempt.publisher} was told {attempt.place}, of no life of its broker"
        )
    held = truth[node].messages[epoch].get(offset)
    if held is not None:
        raise Violation(
            f"G2: {held.payload!r} and {attempt.payload!r} were both told {offset} of {epoch}"
        )
    truth[node].publish(epoch, offset, attempt.message)


def _see(stream: StreamTruth, tried: Attempt | None, got: Got) -> None:
    """Note that a reader has a message. If its publisher tried it and got no answer, it was accepted."""
    if got.offset in stream.messages[got.epoch] or tried is None or tried.refused:
        return
    if tried.place is not None and stream.epochs.index(got.epoch) >= stream.epochs.index(
        tried.place[1]
    ):
        return  # The publisher got an answer: a second copy can only stand in an earlier life of the broker.
    stream.publish(got.epoch, got.offset, tried.message)


def _only_known_streams(history: History, epochs: Mapping[str, Sequence[str]]) -> None:
    for event in history.events:
        match event:
            case Got(node=node, epoch=epoch) | Lost(node=node, place=(epoch, _)):
                if epoch not in epochs.get(node, ()):
                    raise Violation(f"G2: {history.name}: no life of {node} is that of {event}")


def _only_restarts(history: History) -> None:
    for event in history.events:
        if isinstance(event, Lost) and event.reason is not Reason.STATE_LOST:
            raise Violation(f"G4: {history.name}: {event}, though every ring held everything")


def _places(position: Mapping[str, Sequence[object]]) -> dict[str, Place]:
    return {node: (str(epoch), int(str(offset))) for node, (epoch, offset) in position.items()}


def _same(place: Place, other: Place | None) -> bool:
    return other is not None and place[0] == other[0]
