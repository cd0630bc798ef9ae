"""The filters that one life of an application asks for, and those that may judge its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tests.simulation.history import Event, Filtered, Wants
from tests.simulation.known_session import places_of
from tests.simulation.truth import Place, Published

from pubsubd.resume import SessionState
from pubsubd_protocol.frames import FilterSet, SetFilter
from pubsubd_protocol.topics import Filter

Patterns = tuple[str, ...]


def wanting(patterns: Patterns, node: str, mute: bytes | None) -> Wants:
    """The messages that a session at `node` wants: all that match, but those of the publisher `mute`."""
    asked = Filter(patterns)

    def wants(message: Published) -> bool:
        return (
            asked.wants(message.topic)
            and (message.to is None or message.to == node)
            and (mute is None or message.publisher != mute)
        )

    return wants


class AskedFilters:
    """`asked`: the filter at the opening of the session. `changing`: whether a change is not answered yet."""

    def __init__(
        self,
        session: SessionState,
        patterns: Patterns,
        wanting: Callable[[Patterns], Wants],
        sees: Callable[[Event], None],
    ) -> None:
        self.asked = patterns
        self.changing = False
        self._session = session
        self._wanting = wanting
        self._sees = sees
        self._unanswered: deque[Patterns] = deque()
        # The filter that is known to judge, and later ones that its broker may have put in its place.
        self._judges = [patterns]

    def dials(self) -> None:
        self._unanswered.clear()

    def asks(self) -> SetFilter:
        """The frame that asks for the filter that the session has by now."""
        self._unanswered.append(self._session.patterns)
        self._judges.append(self._session.patterns)
        return SetFilter(self._session.patterns)

    def answered(self, frame: FilterSet) -> None:
        judge = self._unanswered.popleft()
        self._sees(Filtered(places_of(frame.positions), self._wanting(judge)))
        self._judges = [judge, *self._unanswered]
        self.changing = bool(self._unanswered)

    def judges_from(self, places: dict[str, Place]) -> None:
        """The filter that was asked for judges from these places on."""
        self._sees(Filtered(places, self._wanting(self.asked)))
        self._judges = [self.asked]

    def settled(self) -> bool:
        """Whether the session stands with the last filter. Else that is still to be asked for."""
        if self.asked == self._session.patterns:
            self.changing = False
            return True
        return False

    def end(self, places: dict[str, Place]) -> None:
        """The life ends: the reader cannot know which filter has judged the messages behind these places."""
        asked = {*self._judges, self.asked, self._session.patterns}
        judges = [self._wanting(patterns) for patterns in asked]
        self._sees(Filtered(places, lambda message: all(wants(message) for wants in judges)))
