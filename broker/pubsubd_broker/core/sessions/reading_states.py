"""States of a reading: one session in one stream, from where it reads, and why it does not read.

A session reads from the log at hand: the ring of its own node, or the replica of a peer's stream. Its position may not
stand in that log. Then only the producer can say what follows, so the broker asks, and the session reads what was
fetched until it meets the log again. Each step of this is an event, and `MOVES` has the state that follows. A pair
that `MOVES` lacks cannot happen: looking it up raises `KeyError`, and the connection ends with that bug's name.

    SEEKING            looks for its position in the log at hand, at the next pull
    READING            stands at an item of the log at hand
    PARKED             stands at the end of that log; only an entry that its filter may want moves it
    ASKING             has asked the producer, and waits for the answer
    CATCHING_UP        has fetched items to read
    AWAITING_REPLICA   has come further than the replica by catching up; the replica will come there too
    AWAITING_LINK      needs the producer's answer, and no link can ask for it
    AWAY               has no application, and only keeps a position
    INQUIRING          is away, and has asked the producer whether it still holds what the next life needs

Both AWAITING states seek again at the next pull. They differ from SEEKING only in what they wait for, so `MOVES` gives
all three the same moves, but for LEFT: a reading is stopped before its application leaves.

The states are integers: a dictionary finds a pair of them without a Python call, and two moves are made for every
batch that a session is sent.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class ReadingState(IntEnum):
    """Present state of a reading."""

    SEEKING = auto()
    READING = auto()
    PARKED = auto()
    ASKING = auto()
    CATCHING_UP = auto()
    AWAITING_REPLICA = auto()
    AWAITING_LINK = auto()
    AWAY = auto()
    INQUIRING = auto()


class ReadingEvent(IntEnum):
    """Cause of a move."""

    FOUND = auto()
    """The position stands in the log at hand."""
    AHEAD = auto()
    """The position lies beyond the end of the replica, on its branch."""
    ASKED = auto()
    """The link took the question for the producer."""
    UNREACHABLE = auto()
    """No link takes the question."""
    FETCHED = auto()
    """The producer answered, and items follow."""
    ANSWERED = auto()
    """The producer answered, without items."""
    UNLINKED = auto()
    """The link is lost: no answer comes."""
    EMPTIED = auto()
    """All fetched items are read, or dropped."""
    DISPLACED = auto()
    """The log at hand does not go on at the position: it was overrun, or a gap comes next."""
    READ_ALL = auto()
    """The log at hand has nothing more."""
    WOKEN = auto()
    """An entry comes that the filter may want, or the filter changes."""
    STOPPED = auto()
    """The place in the log at hand is given up, and with it what was asked and fetched."""
    LEFT = auto()
    """The application is gone."""
    RETURNED = auto()
    """The application is back."""


# Bound by name: in Python 3.11 each look at `ReadingState.PARKED` is a call.
SEEKING: Final = ReadingState.SEEKING
READING: Final = ReadingState.READING
PARKED: Final = ReadingState.PARKED
ASKING: Final = ReadingState.ASKING
CATCHING_UP: Final = ReadingState.CATCHING_UP
AWAITING_REPLICA: Final = ReadingState.AWAITING_REPLICA
AWAITING_LINK: Final = ReadingState.AWAITING_LINK
AWAY: Final = ReadingState.AWAY
INQUIRING: Final = ReadingState.INQUIRING

FOUND: Final = ReadingEvent.FOUND
AHEAD: Final = ReadingEvent.AHEAD
ASKED: Final = ReadingEvent.ASKED
UNREACHABLE: Final = ReadingEvent.UNREACHABLE
FETCHED: Final = ReadingEvent.FETCHED
ANSWERED: Final = ReadingEvent.ANSWERED
UNLINKED: Final = ReadingEvent.UNLINKED
EMPTIED: Final = ReadingEvent.EMPTIED
DISPLACED: Final = ReadingEvent.DISPLACED
READ_ALL: Final = ReadingEvent.READ_ALL
WOKEN: Final = ReadingEvent.WOKEN
STOPPED: Final = ReadingEvent.STOPPED
LEFT: Final = ReadingEvent.LEFT
RETURNED: Final = ReadingEvent.RETURNED

_SEEKS: Final = {
    FOUND: READING,
    AHEAD: AWAITING_REPLICA,
    ASKED: ASKING,
    UNREACHABLE: AWAITING_LINK,
    STOPPED: SEEKING,
}

TABLE: Final[dict[ReadingState, dict[ReadingEvent, ReadingState]]] = {
    SEEKING: {**_SEEKS, LEFT: AWAY},
    AWAITING_REPLICA: _SEEKS,
    AWAITING_LINK: _SEEKS,
    READING: {
        READ_ALL: PARKED,
        DISPLACED: SEEKING,
        STOPPED: SEEKING,
    },
    PARKED: {
        WOKEN: READING,
        STOPPED: SEEKING,
    },
    ASKING: {
        FETCHED: CATCHING_UP,
        ANSWERED: SEEKING,
        UNLINKED: AWAITING_LINK,
        STOPPED: SEEKING,
    },
    CATCHING_UP: {
        EMPTIED: SEEKING,
        STOPPED: SEEKING,
    },
    AWAY: {
        ASKED: INQUIRING,
        UNREACHABLE: AWAY,
        RETURNED: SEEKING,
        STOPPED: AWAY,
        LEFT: AWAY,
    },
    INQUIRING: {
        FETCHED: AWAY,
        ANSWERED: AWAY,
        UNLINKED: AWAY,
        RETURNED: SEEKING,
        STOPPED: AWAY,
    },
}
"""State -> event -> next state."""

MOVES: Final = {
    (state, event): following for state, row in TABLE.items() for event, following in row.items()
}
"""The same by pairs, as the hot path looks it up."""
