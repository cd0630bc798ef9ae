"""Exit codes, and the exceptions that carry one. It imports nothing, because `signals` needs it first of all."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
NO_BROKER = 3
TIMED_OUT = 4
INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with one line on standard error and `code`."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


class Interrupted(BaseException):
    """Ends a command with 130 after SIGINT or SIGTERM. A `BaseException`, so that no `except Exception` stops it.

    The command raises it where it checks for signals. A signal handler never raises it.
    """
