"""Exit codes, and the errors that carry one."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_BROKER: Final = 3
TIMED_OUT: Final = 4
INTERRUPTED: Final = 130


class CommandError(Exception):
    """Ends a command with one line on standard error and `code`."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


class Interrupted(BaseException):
    """SIGINT or SIGTERM: ends a command with 130. No `except Exception` may keep it from that."""
