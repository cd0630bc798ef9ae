"""What a node has to say to its operators: the shell logs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Notice:
    """One event: a constant dotted name in the past tense; figures as fields, never in the text."""

    event: str
    level: Level = Level.INFO
    fields: dict[str, object] = field(default_factory=dict)


MAX_NOTICES = 1000
"""Between two collections by the shell; further ones are counted in one notice."""

MAX_CAUSES = 250
"""Causes that are told apart; those of further ones are logged as if they had one. So few that how often each was
there again can be told in one go, and leaves room for other notices.
"""


class Notices:
    """Collects notices until the shell takes them. Bounded: noise from outside takes neither memory nor the log."""

    __slots__ = ("_began_ns", "_dropped", "_notices", "_repeat_ns", "_said")

    def __init__(self, repeat_ns: int = 0) -> None:
        """`repeat_ns`: in so much time one cause is told once. 0: as often as there is one."""
        self._notices: list[Notice] = []
        self._dropped = 0
        self._repeat_ns = repeat_ns
        self._began_ns: int | None = None
        # What was told since then, and how often it has happened again.
        self._said: dict[tuple[str, ...], int] = {}

    def info(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.INFO, fields))

    def warning(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.WARNING, fields))

    def error(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.ERROR, fields))

    def repeatable(self, notice: Notice, why: str, origin: str) -> None:
        """What somebody outside can make happen as often as he likes. One cause: this event, `why` and from where."""
        if self._repeat_ns:
            cause = (notice.event, why, origin)
            if len(self._said) >= MAX_CAUSES and cause not in self._said:
                cause = (notice.event, "any", "anybody")
            if cause in self._said:
                self._said[cause] += 1
                return
            self._said[cause] = 0
        self._add(notice)

    def tick(self, now_ns: int) -> None:
        """When their time is over, tells how often each cause has been there again."""
        if self._began_ns is None:
            self._began_ns = now_ns
        if now_ns - self._began_ns < self._repeat_ns:
            return
        self._began_ns = now_ns
        said, self._said = self._said, {}
        for (event, why, origin), times in said.items():
            if times:
                self.warning("log.repeated", of=event, why=why, origin=origin, times=times)

    def take(self) -> list[Notice]:
        taken, self._notices = self._notices, []
        if self._dropped:
            taken.append(Notice("notices.dropped", Level.WARNING, {"count": self._dropped}))
            self._dropped = 0
        return taken

    def _add(self, notice: Notice) -> None:
        if len(self._notices) < MAX_NOTICES:
            self._notices.append(notice)
        else:
            self._dropped += 1
