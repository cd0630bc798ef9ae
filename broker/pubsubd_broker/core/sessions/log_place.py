"""Place of a reading at the log at hand: parked or not, and how far the session knows that it has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions import reading_states as states
from pubsubd_broker.core.sessions.bookmark import Bookmark
from pubsubd_broker.core.sessions.source import Source
from pubsubd_protocol.attach import Claim
from pubsubd_protocol.positions import Position
from pubsubd_protocol.topics import Filter


class LogPlace:
    """Follows one log. `wake` is called when there may be something to read again."""

    label: Final = "session"

    __slots__ = (
        "_taken",
        "bookmark",
        "filter",
        "index",
        "overdue",
        "source",
        "state",
        "told",
        "wake",
    )

    def __init__(
        self,
        source: Source,
        bookmark: Bookmark,
        wanted: Filter,
        wake: Callable[[], None],
        state: states.ReadingState,
    ) -> None:
        self.state = state
        self.source = source
        self.bookmark = bookmark
        self.filter = wanted
        """Patterns that wake it; the caller of `pull` chooses what it gets of an entry."""
        self.wake = wake
        self.index: int | None = None
        """The item of the log at hand that it reads next; None unless it is reading or parked."""
        self.told = 0
        """The session knows of all before this item of the log at hand that nothing more of it comes.

        -1: the place that it was told last lies before all that this log ever held.
        """
        self.overdue = False
        """Whether the session is to be told how far it has come, though nothing may be for it."""
        # The index behind the last item of the log at hand of which it was given something.
        self._taken = 0

    @property
    def position(self) -> Position | None:
        """The next offset that the session needs; None while the producer has not said where it stands."""
        self._move_along()
        return self.bookmark.position

    @property
    def needs(self) -> Claim:
        """The claim that the session would present to the producer."""
        self._move_along()
        return self.bookmark.needs

    @property
    def unreported(self) -> int:
        """Offsets passed without a message, of which the session has not been told."""
        self._move_along()
        return self.bookmark.unreported

    @property
    def kept(self) -> Position | None:
        """Beginning of the session's next life."""
        self._move_along()
        return self.bookmark.kept

    def is_done(self, *, connected: bool, named: bool) -> bool:
        """Whether nothing of what the log at hand holds is needed: by the session, and by the next life of one that is `named`."""
        self._move_along()
        if connected and self.state is states.CATCHING_UP:
            return False
        return self.bookmark.is_done(connected=connected, named=named)

    def remind(self) -> None:
        """The session is to be told how far it has come, in its turn."""
        if not self.overdue:
            self.overdue = True
            self.wake()

    def unpark(self, index: int, position: Position) -> None:
        """Moves the reading to `index`, where its filter may match. No entry from the place where it parked to there was for it."""
        cursor = self.bookmark.cursor
        assert cursor is not None
        self.state = states.MOVES[self.state, states.WOKEN]
        self.index = index
        # It may have parked inside the entry that comes: where a replica begins there.
        if position.offset >= cursor.position.offset:
            cursor.position = position
        self.source.pacing.enter(self)
        self.wake()

    def refilter(self, changed: Filter) -> None:
        """From where it stands on it wants something else."""
        self._read_on()
        self.source.log.interest.leave(self)
        self.filter = changed

    def settle(self, out: Outgoing) -> None:
        """Tells the session up to where it has passed offsets without a message."""
        self._move_along()
        self.bookmark.tell(out)
        self._settle(out)

    def _settle(self, out: Outgoing) -> None:
        self.overdue = False
        if self.index is not None:
            self.told = self.index
        cursor = self.bookmark.cursor
        if cursor is not None and cursor.unreported:
            cursor.settle(out)
            self.bookmark.acknowledged = self.kept
            out.settled.append(self.source.node)

    def _move_along(self) -> None:
        """A parked reading stands at the end of the log, wherever that is by now."""
        if self.state is states.PARKED:
            cursor = self.bookmark.cursor
            assert cursor is not None
            self.index = self.source.log.end
            end = self.source.log.end_position
            if end != cursor.position:
                cursor.position = end

    def _read_on(self) -> None:
        """Reads on for a reason of its own."""
        if self.state is states.PARKED:
            self._move_along()
            self.state = states.MOVES[self.state, states.WOKEN]
            self.source.log.interest.unpark(self)
            self.source.pacing.enter(self)
