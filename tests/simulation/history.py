"""What one application saw: the record that the checkers read. Nothing in it is the broker's inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulation.truth import Place, Published

from pubsubd_protocol.attach import Reason


class Kept(StrEnum):
    """From where a life of an application knows where it stands."""

    NOTHING = "nothing"
    """It is the session's first life."""
    STORED = "stored"
    """It stored its position together with what the messages did."""
    BROKER = "broker"
    """Its broker kept what it acknowledged."""
    PRODUCERS = "producers"
    """Its broker has lost its memory; the producers may remember what it acknowledged."""
    FORGOTTEN = "forgotten"
    """Its broker has dropped the name, as it may when the application stays away and has lost something anyway."""


Wants = Callable[[Published], bool]
"""Which messages are for a reader."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A life begins, at these places. `remembered`: those that its producers are known to remember.

    `surely`: they had no reason to drop that since. `wants`: what it asks for from now on, if that is not what it asked for from the beginning.
    `unknown`: streams of which nobody but the last life knew where it stood. `acknowledged`: where its
    broker has to go on, and `held` what producers held from, in which epoch: if it was forgotten.
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
    """The life of its broker that answered."""
    third: dict[str, dict[str, tuple[Place, str]]] = field(default_factory=dict)
    """By stream: where third nodes remember that it stood there, each in the epoch of that node's own stream."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The application has closed, and its broker has said goodbye, in that life of it.

    `passed`: where the session stood at its broker, in those streams in which no notice waits for the application.
    """

    passed: dict[str, Place]
    broker_life: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Its broker is in a new life, while the application lives on and comes back to it.

    `knows`: where the reader stands is known: the application presents it, or the broker has kept its name.
    """

    knows: bool = False


@dataclass(frozen=True, slots=True)
class Filtered:
    """From these places on it is to get what it `wants` now; in a stream not named from its first message."""

    places: dict[str, Place]
    wants: Wants


@dataclass(frozen=True, slots=True)
class Stands:
    """It is told its place in a stream that is new to it."""

    node: str
    place: Place


@dataclass(frozen=True, slots=True)
class Got:
    """It is handed a message."""

    node: str
    epoch: str
    offset: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """It is told that nothing before `place` is for it."""

    node: str
    place: Place


@dataclass(frozen=True, slots=True)
class Lost:
    """It is told that its cursor expired, and goes on at `place`.

    `oldest`: what the producer held from, when it found so; None where that is not known. `own`: the
    session lived before its own broker, and learns that this node's stream began anew. `reborn`: its broker is in
    another life than that in which it subscribed.
    """

    node: str
    reason: Reason
    missed: int | None
    place: Place
    oldest: int | None
    own: bool = False
    reborn: bool = True
    recalled: Place | None = None
    """In its own node's stream: where the peers that took part in the recovery of that stream remembered its name."""


Event = Opened | Closed | Forgotten | Filtered | Stands | Got | Moved | Lost


@dataclass(slots=True)
class History:
    """One reader. `wants`: which messages are for it, until it asks for others. `earliest`: it asked only for what rings still hold."""

    name: str
    wants: Wants
    earliest: bool = False
    node: str | None = None
    """On which it reads."""
    events: list[Event] = field(default_factory=list)
    at: dict[str, Place] = field(default_factory=dict)
    """Where it stands after all events, as it knows."""

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
