"""The guarantee, one function for each of its parts, over the records of applications.

Each function returns None, or raises `Violation` with the part, the reader, the place and the fault. `alarms.py` holds
the rules for true alarms, `beginnings.py` those for the first places of a life, `receipts.py` those for publishers,
`samples.py` those for running brokers.
"""

from __future__ import annotations

from tests.simulation.alarms import true_alarm
from tests.simulation.beginnings import (
    begins_in_place,
    forgotten_only_after_a_loss,
    owed_nothing_before,
    placeless_only_after_a_loss,
)
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
from tests.simulation.violation import refuse
from tests.simulation.walk import Walk


def no_gap(history: History, truth: Truth) -> None:
    """G1: every message for the reader arrives in order, or the reader is told of its loss at that very place."""
    walk = Walk(history, truth)
    for event in history.events:
        match event:
            case Opened(places=places):
                walk.begins(event)
                for node, place in places.items():
                    begins_in_place(walk, node, place)
            case Stands(node, place):
                if node in walk.at:
                    stood = walk.at[node]
                    refuse(
                        "G1",
                        history,
                        node,
                        f"told {place} as a new stream, the reader stood at {stood}",
                    )
                owed_nothing_before(walk, node, place)
            case Got(node, epoch, offset):
                _nothing_missing(walk, node, (epoch, offset))
            case Moved(node, place):
                _nothing_missing(walk, node, place)
        walk.take(event)


def own_loss_is_told(history: History, truth: Truth) -> None:
    """G1, the reader's own node: a name that a producer remembers is told that its node's earlier history ended.

    Its broker lives a later life than the name. The notice comes in this life of the application or in a later one. A
    broker that forgets the name again goes on by the place that the application presents (ADR 24, the last consequence).
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
            case Forgotten(knows=False):
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
    """G1, for a name that broker and producer have both forgotten: a third node remembers its place in a lost history.

    If its broker meets that node, the session is told of the loss, in this life of the application or in a later one.
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
                refuse("G2", history, event.node, f"{event} is not for the reader")
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
                forgotten_only_after_a_loss(walk, event)
                forgotten = set(truth)
            case Opened():
                # A loss is told again until the broker has heard that the application has it.
                heard = {node: place[0] for node, place in event.acknowledged.items()}
                again = {node for node, epoch in told.items() if heard.get(node) != epoch}
                # A forgotten name was not told of this loss: a producer may still remember its place.
                placeless_only_after_a_loss(walk, event, again | forgotten)
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


def _nothing_missing(walk: Walk, node: str, to: Place) -> None:
    history, stream = walk.history, walk.truth[node]
    at = walk.at.get(node)
    if at is None:
        refuse("G1", history, node, f"{to} in a stream in which the reader has no place")
    if to[0] not in stream.epochs:
        refuse("G1", history, node, f"{to} in a history that the stream never had")
    # An entry keeps the epoch under which it was placed, so a reader may also meet an older name.
    branch = max(at[0], to[0], key=stream.age)
    if not (stream.connects(at, branch) and stream.connects(to, branch)):
        refuse("G1", history, node, f"{to} without a notice, the reader stood at {at}")
    if to[1] < at[1]:
        refuse("G1", history, node, f"{to} after the reader stood at {at}")
    missing = walk.wanted(node, branch, at[1], to[1])
    if missing:
        message = stream.messages[branch][missing[0]]
        refuse("G1", history, node, f"{missing[0]} of {branch} is missing: {message}")
    untold = stream.loses(at, to)
    if untold:
        (epoch, offset), *more = untold[0].lost
        what = f"{to} without a notice, the reader stood at {at}: {offset} of {epoch} was lost at {untold[0].place}"
        refuse("G1", history, node, f"{what}, and {len(more)} more" if more else what)
