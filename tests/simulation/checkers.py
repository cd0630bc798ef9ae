"""The guarantee, one function for each of its parts, over what applications saw.

Each returns nothing, or raises `Violation` with the part, the reader, the place and what is wrong there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.simulation.history import Got, History, Kept, Lost, Moved, Opened, Stands
from tests.simulation.truth import Place, StreamTruth, Truth

from pubsubd_protocol.attach import Reason


class Violation(AssertionError):
    """The guarantee is broken. The text says which part of it, for whom, and where."""


def no_gap(history: History, truth: Truth) -> None:
    """G1: every message that is for the reader arrives in order, or it is told at that very place."""
    at: dict[str, Place] = {}
    remembered: dict[str, Place] = {}
    born_ns = 0
    for event in history.events:
        match event:
            case Opened(time_ns, kept, places):
                if kept in (Kept.NOTHING, Kept.PRODUCERS):
                    at, remembered, born_ns = {}, event.remembered, time_ns
                for node, place in places.items():
                    if node in at:
                        _not_further(history, truth, node, place, at[node])
                    else:
                        _owed_nothing_before(history, truth, node, place, born_ns, remembered)
                    at[node] = place
            case Stands(node, place):
                if node in at:
                    _refuse(
                        "G1", history, node, f"told {place} as a new stream, it stood at {at[node]}"
                    )
                _owed_nothing_before(history, truth, node, place, born_ns, remembered)
                at[node] = place
            case Got(node, epoch, offset):
                _nothing_missing(history, truth, node, at.get(node), (epoch, offset))
                at[node] = (epoch, offset + 1)
            case Moved(node, place):
                _nothing_missing(history, truth, node, at.get(node), place)
                at[node] = place
            case Lost(node=node, place=place):
                at[node] = place


def no_phantom(history: History, truth: Truth) -> None:
    """G2: what arrives was published, at that place, with these bytes, and is for this reader."""
    for event in history.events:
        if isinstance(event, Got):
            stream = truth[event.node]
            true = stream.messages.get(event.epoch, {}).get(event.offset)
            if true is None:
                _refuse("G2", history, event.node, f"nobody published {event}")
            elif (true.topic, true.payload) != (event.topic, event.payload):
                _refuse("G2", history, event.node, f"{event}, published was {true}")
            elif not history.wants(true):
                _refuse("G2", history, event.node, f"{event} is not for it")


def no_duplicate(history: History) -> None:
    """G3: nothing twice in one life; nor over all lives of an application that stores its position."""
    seen: set[tuple[str, str, int]] = set()
    for event in history.events:
        match event:
            case Opened(kept=kept):
                if kept is not Kept.STORED:
                    seen.clear()
            case Got(node, epoch, offset):
                if (node, epoch, offset) in seen:
                    _refuse("G3", history, node, f"{offset} of {epoch} a second time")
                seen.add((node, epoch, offset))


def no_false_alarm(history: History, truth: Truth) -> None:
    """G4: whoever is told of a loss has lost what the producer did not hold any more when the gap was made."""
    at: dict[str, Place] = {}
    for event in history.events:
        match event:
            case Opened(kept=kept, places=places):
                if kept in (Kept.NOTHING, Kept.PRODUCERS):
                    at = {}
                at.update(places)
            case Stands(node, place) | Moved(node, place):
                at[node] = place
            case Got(node, epoch, offset):
                at[node] = (epoch, offset + 1)
            case Lost(node=node, place=place):
                if not (event.own and _own_loss(event, at.get(node))):
                    _true_alarm(history, truth[node], event, at.get(node))
                at[node] = place


@dataclass(frozen=True, slots=True)
class Held:
    """What a bounded thing held at a moment."""

    node: str
    what: str
    held: int
    limit: int


def bounded(samples: Iterable[Held]) -> None:
    """G5: nothing ever held more than its bound."""
    for sample in samples:
        if sample.held > sample.limit:
            raise Violation(
                f"G5: {sample.node}: {sample.what} held {sample.held}, the bound is {sample.limit}"
            )


@dataclass(frozen=True, slots=True)
class Published:
    """One publish as its publisher saw it. `epoch` and `first` say where; None if it was refused or unanswered.

    `waited_ns`: from its writing to its answer, where its broker was up, awake and connected all the while.
    """

    publisher: str
    node: str
    payloads: tuple[bytes, ...]
    epoch: str | None
    first: int | None
    refused: bool
    waited_ns: int | None


def nobody_stops_a_publisher(publishes: Iterable[Published], longest_ns: int) -> None:
    """G6: while its broker is there, a publisher has its answer within a bounded time, whoever else is not."""
    for publish in publishes:
        if publish.waited_ns is not None and publish.waited_ns > longest_ns:
            raise Violation(
                f"G6: {publish.publisher} waited {publish.waited_ns} ns for {publish.payloads[:3]}"
            )


def placed_as_told(publishes: Iterable[Published], truth: Truth) -> None:
    """G2, for publishers: accepted is at its place, once in a life of the broker; refused is nowhere."""
    for node, stream in truth.items():
        for epoch, messages in stream.messages.items():
            payloads = [message.payload for message in messages.values()]
            if len(set(payloads)) != len(payloads):
                twice = next(p for p in payloads if payloads.count(p) > 1)
                raise Violation(f"G2: {node} placed {twice!r} twice in {epoch}")
    for publish in publishes:
        stream = truth[publish.node]
        if publish.epoch is not None and publish.first is not None:
            held = stream.messages.get(publish.epoch, {})
            found = [held.get(publish.first + i) for i in range(len(publish.payloads))]
            if [message and message.payload for message in found] != list(publish.payloads):
                raise Violation(
                    f"G2: {publish.publisher} was told {publish.first} of {publish.epoch} for {publish.payloads}"
                )
        elif publish.refused:
            kept = {m.payload for messages in stream.messages.values() for m in messages.values()}
            if kept.intersection(publish.payloads):
                raise Violation(
                    f"G2: {publish.publisher} was refused {publish.payloads}, the stream has it"
                )


def _not_further(history: History, truth: Truth, node: str, place: Place, at: Place) -> None:
    stream = truth[node]
    if stream.order(place) > stream.order(at):
        _refuse("G1", history, node, f"its next life begins at {place}, the last one ended at {at}")


def _owed_nothing_before(
    history: History,
    truth: Truth,
    node: str,
    place: Place,
    born_ns: int,
    remembered: dict[str, Place],
) -> None:
    stream = truth[node]
    kept = remembered.get(node)
    if kept is not None and kept[0] == place[0] and kept[1] < place[1]:
        _refuse(
            "G1", history, node, f"begins at {place}, its producer knew that it ended at {kept}"
        )
    if history.earliest or kept is not None:
        return
    for offset, message in stream.messages.get(place[0], {}).items():
        if offset < place[1] and message.time_ns > born_ns and history.wants(message):
            _refuse(
                "G1",
                history,
                node,
                f"begins at {place}, was owed {offset}, published after it subscribed",
            )


def _nothing_missing(
    history: History, truth: Truth, node: str, at: Place | None, to: Place
) -> None:
    if at is None:
        _refuse("G1", history, node, f"{to} in a stream in which it was told no place")
        return
    if at[0] != to[0]:
        _refuse("G1", history, node, f"{to} without a word, it stood at {at}")
    messages = truth[node].messages[to[0]]
    for offset in range(at[1], to[1]):
        message = messages.get(offset)
        if message is not None and history.wants(message):
            _refuse("G1", history, node, f"{offset} of {to[0]} is missing: {message}")


def _own_loss(lost: Lost, at: Place | None) -> bool:
    """A named session that lived before its broker is told so, wherever it stands in the new history."""
    return (
        lost.reason is Reason.STATE_LOST
        and at is not None
        and at[0] == lost.place[0]
        and at[1] <= lost.place[1]
    )


def _true_alarm(history: History, stream: StreamTruth, lost: Lost, at: Place | None) -> None:
    node, place, oldest = lost.node, lost.place, lost.oldest
    if stream.views is not None and (place[0], oldest, place[1]) not in stream.views:
        _refuse(
            "G4", history, node, f"expired by a ring of {oldest}..{place[1]}, which there never was"
        )
    if at is None:
        if lost.reason is not Reason.UNSEEN or lost.missed is not None:
            _refuse("G4", history, node, f"{lost}, though it was told no place there")
        if oldest == 0 and stream.epochs[0] == place[0]:
            _refuse(
                "G4", history, node, "unseen, though the ring still held the stream's first message"
            )
    elif at[0] != place[0]:
        if lost.reason is not Reason.STATE_LOST or lost.missed is not None:
            _refuse("G4", history, node, f"{lost} across epochs, it stood at {at}")
    else:
        _true_overrun(history, stream, lost, at)


def _true_overrun(history: History, stream: StreamTruth, lost: Lost, at: Place) -> None:
    node, jump = lost.node, lost.place[1] - at[1]
    if lost.oldest is not None and at[1] >= lost.oldest:
        _refuse(
            "G4",
            history,
            node,
            f"{lost}, though the ring held {lost.oldest} on and it stood at {at[1]}",
        )
    if stream.capacity is not None and jump <= stream.capacity:
        _refuse(
            "G4",
            history,
            node,
            f"{lost}, though the ring holds {stream.capacity} and it stood at {at[1]}",
        )
    # Notices that were merged leave out what was passed between them, which was for somebody else.
    messages = stream.messages[at[0]]
    passed = sum(
        o in messages and not history.wants(messages[o]) for o in range(at[1], lost.place[1])
    )
    if lost.reason is not Reason.OVERWRITTEN or lost.missed not in range(jump - passed, jump + 1):
        _refuse("G4", history, node, f"{lost}, it stood at {at[1]}")


def _refuse(rule: str, history: History, node: str, what: str) -> None:
    raise Violation(f"{rule}: {history.name} in the stream of {node}: {what}")
