"""The record of what one application saw, for the checkers. It holds no inner state of a broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulation.truth import Place, Published

from pubsubd_protocol.attach import Reason


class Kept(StrEnum):
    """The source of the place at which a life of an application begins."""

    NOTHING = "nothing"
    """None: it is the session's first life."""
    STORED = "stored"
    """The application stored its position together with the effects of its messages."""
    BROKER = "broker"
    """The broker kept the acknowledged place."""
    PRODUCERS = "producers"
    """The broker has lost its memory; producers may remember the acknowledged place."""
    FORGOTTEN = "forgotten"
    """The broker has dropped the name, as it may when the application stays away and has lost messages anyway."""


Wants = Callable[[Published], bool]
"""The filter of a reader."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A life begins, at these places. `remembered`: the places that its producers are known to remember.

    `surely`: the producers had no reason to drop these since. `wants`: the filter from now on, if it differs from the
    first one. `unknown`: streams in which only the last life knew its place. `acknowledged`: the places where its
    broker has to go on; `held`: the oldest offsets of producers, by epoch, if the name was forgotten.
    """

    time_ns: int
    kept: Kept
    places: dict[str, Place]
    remembered: dict[str, Place] = field(default_factory=dict)
    wants: Wants | None = None
    unknown: frozenset[str] = frozenset()
    acknowledged: dict[str, Place] = field(default_factory=dict)
    held: dict[str, Place] = field(default_factory=dict)
    surely: bool = True
    broker_life: int = 0
    """The life of the broker that answered."""
    third: dict[str, dict[str, tuple[Place, str]]] = field(default_factory=dict)
    """By stream: the places that third nodes remember of the session, each with the epoch of that node's own stream."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The application has closed, and its broker has said goodbye in the same life.

    `passed`: the session's places at its broker, in streams in which no notice waits for the application.
    """

    passed: dict[str, Place]
    broker_life: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The broker is in a new life, while the application lives on and comes back to it.

    `knows`: the reader's place is known, as the application presents it or the broker has kept its name. `third`: as in
    `Opened`, when the earlier life ended.
    """

    knows: bool = False
    third: dict[str, dict[str, tuple[Place, str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filtered:
    """From these places on the reader `wants` other messages; in a stream not named, from its first message."""

    places: dict[str, Place]
    wants: Wants


@dataclass(frozen=True, slots=True)
class Stands:
    """The reader is told its place in a stream that is new to it."""

    node: str
    place: Place


@dataclass(frozen=True, slots=True)
class Got:
    """The reader is handed a message."""

    node: str
    epoch: str
    offset: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """The reader is told that no message before `place` is for it."""

    node: str
    place: Place


@dataclass(frozen=True, slots=True)
class Lost:
    """The reader is told that its cursor expired, and goes on at `place`.

    `oldest`: the producer's oldest offset when it found that out; None if that is not known. `own`: the session lived
    before its own broker, and learns that this node's stream began anew. `reborn`: its broker lives another life than
    at the subscription.
    """

    node: str
    reason: Reason
    missed: int | None
    place: Place
    oldest: int | None
    own: bool = False
    reborn: bool = True
    recovered: Place | None = None
    """In its own node's stream: the place of its name, as peers remembered it when that stream was recovered."""


Event = Opened | Closed | Forgotten | Filtered | Stands | Got | Moved | Lost


@dataclass(slots=True)
class History:
    """A reader.

    `wants`: its filter, until it asks for another. `earliest`: it asked only for messages that rings still hold.
    """

    name: str
    wants: Wants
    earliest: bool = False
    node: str | None = None
    """The node on which it reads."""
    events: list[Event] = field(default_factory=list)
    at: dict[str, Place] = field(default_factory=dict)
    """The places after all events, as the reader knows them."""

    def add(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case Opened(kept=kept, places=places, unknown=unknown):
                if kept in (Kept.PRODUCERS, Kept.FORGOTTEN):
                    self.at.clear()
                for node in unknown:
                    self.at.pop(node, None)
                self.at.update(places)
            case Stands(node, place) | Moved(node, place) | Lost(node=node, place=place):
                self.at[node] = place
            case Got(node, epoch, offset):
                self.at[node] = (epoch, offset + 1)
            case Filtered() | Closed() | Forgotten():
                pass

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)
