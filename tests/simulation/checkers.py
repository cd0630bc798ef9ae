"""The guarantee, one function for each of its parts, over the records of applications.

Each function returns None, or raises `Violation` with the part, the reader, the place and the fault. `alarms.py`
holds the rules for true alarms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.simulation.alarms import own_loss_before, true_alarm
from tests.simulation.history import (
    Closed,
    Forgotten,
    Got,
    History,
    Kept,
    Lost,
    Moved,
    Opened,
    Stands,
)
from tests.simulation.truth import NOWHERE, Place, Truth
from tests.simulation.truth import Published as Message
from tests.simulation.violation import Violation, refuse
from tests.simulation.walk import Walk

__all__ = [
    "Held",
    "Published",
    "Told",
    "Violation",
    "answers_publishers_in_time",
    "bounded",
    "no_duplicate",
    "no_false_alarm",
    "no_gap",
    "no_phantom",
    "own_loss_is_told",
    "passed_is_not_read_again",
    "placed_as_told",
    "third_loss_is_told",
    "told_as_it_parts",
    "told_in_time",
]


def no_gap(history: History, truth: Truth) -> None:
    """G1: every message for the reader arrives in order, or the reader is told of its loss at that very place."""
    walk = Walk(history, truth)
    for event in history.events:
        match event:
            case Opened(places=places):
                walk.begins(event)
                for node, place in places.items():
                    _begins_in_place(walk, node, place)
            case Stands(node, place):
                if node in walk.at:
                    stood = walk.at[node]
                    refuse(
                        "G1", history, node, f"told {place} as a new stream, it stood at {stood}"
                    )
                _owed_nothing_before(walk, node, place)
            case Got(node, epoch, offset):
                _nothing_missing(walk, node, (epoch, offset))
            case Moved(node, place):
                _nothing_missing(walk, node, place)
        walk.take(event)


def own_loss_is_told(history: History, truth: Truth) -> None:
    """G1, the reader's own node: a name that a producer remembers from before its broker's present life is told that
    its node's earlier history ended, in that life of the application or in a later one.
    """
    known: dict[str, str] = {}
    owed = False
    walk, own = Walk(history, truth), history.node or ""
    for event in history.events:
        match event:
            case Opened(kept=Kept.PRODUCERS, remembered=remembered, surely=surely):
                known, owed = {}, False
                if surely:
                    # A broker that restarted with its ring has forgotten its consumers, under a name that goes on.
                    known = {n: p[0] for n, p in remembered.items() if not _continued(truth, n)}
            case Opened(kept=kept) if kept is not Kept.BROKER:
                known, owed = {}, False
            case Lost(node=node) if node == history.node:
                known, owed = {}, False
            case Stands(node, place):
                owed = owed or known.get(node) == place[0]
        if isinstance(event, Opened):
            owed = owed or any(known.get(n) == place[0] for n, place in event.places.items())
        walk.take(event)
    stood, at = walk.stood_before.get(own), history.at.get(own)
    if stood is not None and at is not None and truth[own].connects(stood, at[0]):
        owed = False  # The stream was recovered, and goes on where the name stood.
    if owed and history.node is not None:
        refuse("G1", history, history.node, "never told that its node's history ended")


def third_loss_is_told(history: History, truth: Truth) -> None:
    """G1, for a name that broker and producer have both forgotten: if its broker meets a third node that remembers
    its place in a lost history, the session is told so, in that life of the application or in a later one.

    The broker forgets such news with its memory, too. In its next life the producer's word counts, which knows the
    name again.
    """
    third: dict[str, dict[str, tuple[Place, str]]] = {}
    owed: dict[str, Place] = {}
    for event in history.events:
        met: dict[str, Place] = {}
        match event:
            case Opened(kept=kept, places=places):
                met = places
                if kept is not Kept.BROKER:
                    sure = kept is Kept.PRODUCERS and event.surely
                    third, owed = (event.third if sure else {}), {}
            case Stands(node, place):
                met = {node: place}
            case Forgotten():
                third, owed = {}, {}
            case Lost(node=node):
                third = {n: tellers for n, tellers in third.items() if n != node}
                owed.pop(node, None)
        for node, tellers in third.items():
            for teller, (stood, epoch) in tellers.items():
                if teller in met and met[teller][0] == epoch and not _continued(truth, teller):
                    owed[node] = stood
    for node, stood in owed.items():
        at = history.at.get(node)
        if at is not None and not truth[node].connects(stood, at[0]):
            what = f"never told that it lost what followed on {stood}, which a third node knew"
            refuse("G1", history, node, what)


def _continued(truth: Truth, node: str) -> bool:
    return any(truth[node].lineages.values())


def no_phantom(history: History, truth: Truth) -> None:
    """G2: each message that arrives was published, at that place, with these bytes, and is for this reader."""
    walk = Walk(history, truth)
    for event in history.events:
        if isinstance(event, Got):
            stream = truth[event.node]
            true = stream.messages.get(event.epoch, {}).get(event.offset)
            if true is None or event.offset < stream.starts[event.epoch]:
                refuse("G2", history, event.node, f"{event} was never published")
            elif (true.topic, true.payload) != (event.topic, event.payload):
                refuse("G2", history, event.node, f"{event}, published was {true}")
            elif not walk.wants(event.node, (event.epoch, event.offset)):
                refuse("G2", history, event.node, f"{event} is not for it")
        walk.take(event)


def no_duplicate(history: History) -> None:
    """G3: no message twice in one life, nor over all lives of an application that stores its position."""
    seen: set[tuple[str, str, int]] = set()
    for event in history.events:
        match event:
            case Opened(kept=kept):
                if kept is not Kept.STORED:
                    seen.clear()
            case Got(node, epoch, offset):
                if (node, epoch, offset) in seen:
                    refuse("G3", history, node, f"{offset} of {epoch} a second time")
                seen.add((node, epoch, offset))


def no_false_alarm(history: History, truth: Truth) -> None:
    """G4: a reader that is told of a loss lost messages that its producer no longer held when the gap was made."""
    walk = Walk(history, truth)
    told: dict[str, str] = {}
    forgotten: set[str] = set()
    for event in history.events:
        match event:
            case Lost():
                true_alarm(walk, event)
                told[event.node] = event.place[0]
                forgotten.discard(event.node)
            case Opened(kept=Kept.FORGOTTEN):
                _rightly_forgotten(walk, event)
                forgotten = set(truth)
            case Opened():
                # A loss is told again until the broker has heard that the application has it.
                heard = {node: place[0] for node, place in event.acknowledged.items()}
                again = {node for node, epoch in told.items() if heard.get(node) != epoch}
                # A forgotten name was not told of this loss: a producer may still remember its place.
                _will_rightly_be_told(walk, event, again | forgotten)
        walk.take(event)


def passed_is_not_read_again(history: History, truth: Truth) -> None:
    """G4, a reader that closed: it stands behind all that it had passed and that was not for it.

    Its next life begins there, too. Else the ring may overtake it before that place.
    """
    walk = Walk(history, truth)
    closed: Closed | None = None
    for event in history.events:
        match event:
            case Closed(passed=passed):
                for node, place in passed.items():
                    if node in walk.at and _only_passed(walk, node, walk.at[node], place):
                        what = f"closed at {walk.at[node]}, its broker had passed {place}"
                        refuse("G4", history, node, what)
                closed = event
            case Opened(kept=kept, places=places):
                if closed is not None and _goes_on(kept, event, closed):
                    for node, place in closed.passed.items():
                        if node in places and _only_passed(walk, node, places[node], place):
                            what = (
                                f"begins at {places[node]}, it had closed when {place} was passed"
                            )
                            refuse("G4", history, node, what)
                closed = None
        walk.take(event)


def _goes_on(kept: Kept, opened: Opened, closed: Closed) -> bool:
    return kept is Kept.STORED or (kept is Kept.BROKER and opened.broker_life == closed.broker_life)


def _only_passed(walk: Walk, node: str, at: Place, passed: Place) -> bool:
    """Whether `at` lies before `passed` in one history, with no message for the reader between them."""
    stream = walk.truth[node]
    before = at != NOWHERE and stream.connects(at, passed[0]) and at[1] < passed[1]
    if before and stream.loses(at, passed):
        return False
    return before and not walk.wanted(node, passed[0], at[1], passed[1])


@dataclass(frozen=True, slots=True)
class Told:
    """The last told place of a resting reader that could be told more of `stream`, and the oldest offset of its log."""

    node: str
    reader: str
    stream: str
    told: int
    oldest: int


def told_in_time(samples: Iterable[Told]) -> None:
    """G4: a reader is told how far it has come before the log lets go of the place that it was told last."""
    for sample in samples:
        if sample.told < sample.oldest:
            raise Violation(
                f"G4: {sample.node}: {sample.reader} knows of {sample.told} of {sample.stream}, the log holds from "
                f"{sample.oldest} on"
            )


@dataclass(frozen=True, slots=True)
class Parted:
    """The end of a stopping broker in a stream, and the place it told `hears`, a session or a producer."""

    node: str
    hears: str
    stream: str
    told: int
    passed: int


def told_as_it_parts(samples: Iterable[Parted]) -> None:
    """G4: the last words of a broker tell its sessions and its producers how far it has come."""
    for sample in samples:
        if sample.told != sample.passed:
            raise Violation(
                f"G4: {sample.node} parts: {sample.hears} knows of {sample.told} of {sample.stream}, it has come to "
                f"{sample.passed}"
            )


@dataclass(frozen=True, slots=True)
class Held:
    """The amount that a bounded part held at a moment."""

    node: str
    what: str
    held: int
    limit: int


def bounded(samples: Iterable[Held]) -> None:
    """G5: no part ever held more than its bound."""
    for sample in samples:
        if sample.held > sample.limit:
            raise Violation(
                f"G5: {sample.node}: {sample.what} held {sample.held}, the bound is {sample.limit}"
            )


@dataclass(frozen=True, slots=True)
class Published:
    """A publish as its publisher saw it. `epoch` and `first`: its place; None if it was refused or unanswered.

    `waited_ns`: time from its writing to its answer, if its broker was up, awake and connected all the while.
    `ahead`: the unanswered publishes of the same publisher at that time.
    """

    publisher: str
    node: str
    payloads: tuple[bytes, ...]
    epoch: str | None
    first: int | None
    refused: bool
    waited_ns: int | None
    ahead: int = 0


def answers_publishers_in_time(
    publishes: Iterable[Published], longest_ns: int, pace_ns: int = 0, quarter: int = 1
) -> None:
    """G6: while its broker is there, a publisher gets its answer within a bounded time, whichever other nodes are
    away.

    Readers may hold publishers for `pace_ns` for each `quarter` of the ring, in messages. A publish waits behind
    those of its own publisher, and takes turns with those of others.
    """
    publishes = list(publishes)
    publishers = Counter(node for node, _ in {(p.node, p.publisher) for p in publishes})
    largest = max((len(publish.payloads) for publish in publishes), default=1)
    for publish in publishes:
        before = (publish.ahead + 1) * publishers[publish.node]
        turns = min(before, 2 + before * largest // quarter)
        if publish.waited_ns is not None and publish.waited_ns > longest_ns + turns * pace_ns:
            raise Violation(
                f"G6: {publish.publisher} waited {publish.waited_ns} ns for {publish.payloads[:3]}, behind "
                f"{publish.ahead} others"
            )


def placed_as_told(
    publishes: Iterable[Published], truth: Truth, *, journaled: bool = False
) -> None:
    """G2, for publishers: an accepted batch stands at its place, once in a life of the broker. A refused one stands
    nowhere.

    The batches of one publisher stand in the order of publishing. `journaled`: lives that continue one another are
    one.
    """
    publishes = list(publishes)
    order = {payload: i for i, publish in enumerate(publishes) for payload in publish.payloads}
    kept: dict[str, set[bytes]] = {}
    for node, stream in truth.items():
        kept[node] = set()
        for epoch, messages in stream.messages.items():
            # Messages that an epoch took over were placed in an earlier life.
            placed = [m for offset, m in sorted(messages.items()) if offset >= stream.starts[epoch]]
            whole = messages.values() if journaled else placed
            own = [m.payload for m in whole]
            _in_order(node, epoch, placed, order)
            if len(set(own)) != len(own):
                twice = next(payload for payload in own if own.count(payload) > 1)
                raise Violation(f"G2: {node} placed {twice!r} twice in {epoch}")
            kept[node].update(own)
    for publish in publishes:
        stream = truth[publish.node]
        if publish.epoch is not None and publish.first is not None:
            held = stream.messages.get(publish.epoch, {})
            found = [held.get(publish.first + i) for i in range(len(publish.payloads))]
            if [message and message.payload for message in found] != list(publish.payloads):
                raise Violation(
                    f"G2: {publish.publisher} was told {publish.first} of {publish.epoch} for {publish.payloads}"
                )
        elif publish.refused and kept[publish.node].intersection(publish.payloads):
            raise Violation(
                f"G2: {publish.publisher} was refused {publish.payloads}, the stream has it"
            )


def _in_order(node: str, epoch: str, placed: Iterable[Message], order: Mapping[bytes, int]) -> None:
    last: dict[bytes, int] = {}
    for message in placed:
        number = order.get(message.payload)
        if number is not None:
            if number < last.get(message.publisher, 0):
                raise Violation(f"order: {message.payload!r} came too late in {epoch} of {node}")
            last[message.publisher] = number


def _begins_in_place(walk: Walk, node: str, place: Place) -> None:
    stood = walk.stood(node)
    if stood is None:
        _owed_nothing_before(walk, node, place)
    elif walk.truth[node].further(place, stood) and not _passed_only(walk, node, stood, place):
        what = f"its next life begins at {place}, the last one ended at {stood}"
        refuse("G1", walk.history, node, what)


def _passed_only(walk: Walk, node: str, begin: Place, end: Place) -> bool:
    """Whether no message between two places of one history is for the reader, so that it may have passed them.

    The topic of a lost message cannot be known: a loss is never passed in silence.
    """
    stream = walk.truth[node]
    if not stream.connects(begin, end[0]) or stream.loses(begin, end):
        return False
    return not walk.wanted(node, end[0], begin[1], end[1])


def _owed_nothing_before(walk: Walk, node: str, place: Place) -> None:
    history, stream = walk.history, walk.truth[node]
    before = walk.stood_before.get(node)
    if before is not None and node in walk.strictly and place != NOWHERE:
        _not_beyond(walk, node, place, before)
    # The reader's broker may have learned that place from a producer before the producer lost its memory.
    if before is not None and _went_no_further(walk, node, before, place):
        return
    kept = walk.remembered.get(node)
    # The reader may have passed messages for others before it was told a place.
    if kept is not None and (kept == NOWHERE or _went_no_further(walk, node, kept, place)):
        return
    # Or the broker learned it from a third node, before or after the producer had forgotten it.
    third = [stood for stood, _ in walk.third.get(node, {}).values()]
    if any(_went_no_further(walk, node, stood, place) for stood in third):
        return
    # Under a later epoch the producer may have lost its memory of consumers: then the reader is owed as much as a new
    # one.
    if kept is not None and kept[0] == place[0] and walk.surely:
        what = f"begins at {place}, its producer knew that it ended at {kept}"
        refuse("G1", history, node, what)
    if history.earliest:
        _all_that_was_held(walk, node, place)
    messages = stream.messages.get(place[0], {})
    for offset in walk.wanted(node, place[0], 0, place[1]):
        if messages[offset].time_ns > walk.born_ns:
            what = f"begins at {place}, was owed {offset}, published after it subscribed"
            refuse("G1", history, node, what)
    _owed_no_loss_before(walk, node, place)


def _went_no_further(walk: Walk, node: str, before: Place, place: Place) -> bool:
    """Whether a reader at `place` has passed no message beyond those before `before`."""
    stream = walk.truth[node]
    if not {before[0], place[0]} <= set(stream.epochs):
        return False
    back = stream.connects(place, before[0]) and not stream.further(place, before)
    # A history that went on whole has a later name at the same place.
    return back or _passed_only(walk, node, before, place)


def _owed_no_loss_before(walk: Walk, node: str, place: Place) -> None:
    """A reader that existed when a message was published, and begins behind the place of its loss, is told."""
    stream = walk.truth[node]
    if place == NOWHERE:
        return
    for end in stream.loses((stream.epochs[0], -1), place):
        for epoch, offset in end.lost:
            late = stream.messages[epoch][offset].time_ns > walk.born_ns
            if late and walk.wants(node, (epoch, offset)):
                what = f"begins at {place}, was owed {offset} of {epoch}, which was lost at {end.place} after it subscribed"
                refuse("G1", walk.history, node, what)


def _not_beyond(walk: Walk, node: str, place: Place, before: Place) -> None:
    """All messages behind its last place, as far as the history of `place` has them, reach the reader or are told as
    lost.
    """
    ends = {place[0]: before[1], **walk.truth[node].lineages[place[0]]}
    if before[0] in ends:
        missing = walk.wanted(node, place[0], min(before[1], ends[before[0]]), place[1])
        if missing:
            what = f"begins at {place}, it stood at {before}, and {missing[0]} is missing"
            refuse("G1", walk.history, node, what)
        if before[1] <= ends[before[0]] and walk.truth[node].loses(before, place):
            what = f"begins at {place}, it stood at {before}, and was not told of the loss between"
            refuse("G1", walk.history, node, what)


def _all_that_was_held(walk: Walk, node: str, place: Place) -> None:
    """A reader that asked for the earliest begins with the oldest offset of the ring at some moment."""
    stream = walk.truth[node]
    if stream.views is not None:
        begins = [
            oldest
            for epoch, oldest, _ in stream.views
            if oldest <= place[1] and stream.connects(place, epoch)
        ]
        missing = walk.wanted(node, place[0], max(begins), place[1]) if begins else []
        if missing:
            what = f"begins at {place}, the ring held {missing[0]}, and it asked for the earliest"
            refuse("G1", walk.history, node, what)


def _rightly_forgotten(walk: Walk, opened: Opened) -> None:
    """A name may be dropped if its next life would have been told of a loss."""
    for node in walk.truth:
        place, held = opened.acknowledged.get(node), opened.held.get(node)
        if place is None or held is None:
            return
        if not walk.truth[node].connects(place, held[0]) or place[1] < held[1]:
            return
        if _is_an_end(walk, node, place):
            return
    what = f"forgotten, though all that follows on {opened.acknowledged} is held"
    refuse("G4", walk.history, "every node", what)


def _will_rightly_be_told(walk: Walk, opened: Opened, told: set[str]) -> None:
    """A life without a place will be told of a loss: there must be one, or an earlier one that was told and not taken
    in.
    """
    # If its broker has not kept its name, the session may learn late of its own node's earlier history, by the memory
    # of its producers.
    known = opened.kept is Kept.BROKER and walk.known
    excepted = told if known else told | {walk.history.node}
    for node, place in opened.places.items():
        at, held = walk.at.get(node), opened.held.get(node)
        if place != NOWHERE or at is None or held is None or node in excepted:
            continue
        # The last life had no place, and ended before it was told.
        if at == NOWHERE:
            continue
        if _is_an_end(walk, node, at):
            continue
        # The broker met the name as a new one, and heard later from a producer that it had lived before.
        if node == walk.history.node and own_loss_before(walk, node, at):
            continue
        if walk.truth[node].connects(at, held[0]) and at[1] >= held[1]:
            what = f"begins without a place, it stood at {at}, and {held} is held"
            refuse("G4", walk.history, node, what)


def _is_an_end(walk: Walk, node: str, at: Place) -> bool:
    """Whether a later history goes on right there, behind a loss, or behind a possible loss."""
    stream = walk.truth[node]
    return any(
        stream.connects(at, epoch)
        and any(end.may_be_told for end in stream.ends_between(at, (epoch, at[1])))
        for epoch in stream.epochs
    )


def _nothing_missing(walk: Walk, node: str, to: Place) -> None:
    history, stream = walk.history, walk.truth[node]
    at = walk.at.get(node)
    if at is None:
        refuse("G1", history, node, f"{to} in a stream in which it was told no place")
    if to[0] not in stream.epochs:
        refuse("G1", history, node, f"{to} in a history that the stream never had")
    # An entry keeps the epoch under which it was placed, so a reader may also meet an older name.
    branch = max(at[0], to[0], key=stream.age)
    if not (stream.connects(at, branch) and stream.connects(to, branch)):
        refuse("G1", history, node, f"{to} without a word, it stood at {at}")
    if to[1] < at[1]:
        refuse("G1", history, node, f"{to} after it stood at {at}")
    missing = walk.wanted(node, branch, at[1], to[1])
    if missing:
        message = stream.messages[branch][missing[0]]
        refuse("G1", history, node, f"{missing[0]} of {branch} is missing: {message}")
    untold = stream.loses(at, to)
    if untold:
        (epoch, offset), *more = untold[0].lost
        what = f"{to} without a word, it stood at {at}: {offset} of {epoch} was lost at {untold[0].place}"
        refuse("G1", history, node, f"{what}, and {len(more)} more" if more else what)
