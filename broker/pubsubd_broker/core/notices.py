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


class Notices:
    """Collects notices until the shell takes them. Bounded: noise from outside can't take memory."""

    __slots__ = ("_dropped", "_notices")

    def __init__(self) -> None:
        self._notices: list[Notice] = []
        self._dropped = 0

    def info(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.INFO, fields))

    def warning(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.WARNING, fields))

    def error(self, event: str, **fields: object) -> None:
        self._add(Notice(event, Level.ERROR, fields))

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
