"""What the exit codes mean, and the errors that carry one. Imports nothing: signals are taken care of with it."""

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
    """SIGINT or SIGTERM: ends a command with 130. No `except Exception` may keep it from that.

    Raised where the command looks, never by a signal's handler.
    """
