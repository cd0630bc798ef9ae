"""Notices for a node's operators. The shell logs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Notice:
    """An event for the log: a constant dotted name in the past tense. Figures are fields, never part of the text."""

    event: str
    level: Level = Level.INFO
    fields: dict[str, object] = field(default_factory=dict)


MAX_NOTICES = 1000
"""Notices held until the shell collects them. Further ones are only counted, in one notice."""

MAX_CAUSES = 250
"""Causes that are told apart; all others count as one. A summary of them all must leave room for other notices."""


class Notices:
    """Collects notices until the shell takes them. Bounded: noise from outside fills neither the memory nor the log."""

    __slots__ = ("_began_ns", "_dropped", "_notices", "_repeat_ns", "_said")

    def __init__(self, repeat_ns: int = 0) -> None:
        """`repeat_ns`: the time in which one cause is logged once. 0: every notice is logged."""
        self._notices: list[Notice] = []
        self._dropped = 0
        self._repeat_ns = repeat_ns
        self._began_ns: int | None = None
        # Causes logged since `_began_ns`, each with the number of its repetitions.
        self._said: dict[tuple[str, ...], int] = {}

    def info(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.INFO, fields))

    def warning(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.WARNING, fields))

    def error(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.ERROR, fields))

    def repeatable(self, notice: Notice, why: str, origin: str) -> None:
        """Adds a notice that an outsider can cause at will. A cause is this event, `why` and `origin`; each is logged once."""
        if self._repeat_ns:
            cause = (notice.event, why, origin)
            if len(self._said) >= MAX_CAUSES and cause not in self._said:
                cause = (notice.event, "any", "any")
            if cause in self._said:
                self._said[cause] += 1
                return
            self._said[cause] = 0
        self._add(notice)

    def tick(self, now_ns: int) -> None:
        """Logs the number of repetitions of each cause, once `repeat_ns` has passed."""
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
