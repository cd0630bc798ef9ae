"""What SIGINT and SIGTERM do in each phase of a process. No phase swallows one, and none raises.

An exception that a handler raises comes at any bytecode: a finaliser, a weak reference's callback or the import machinery
may drop it, and the signal with it. So a handler ends the process at once, or tells the loop. As a handler it also
reaches process 1 of a container, to which the kernel delivers no other signal.

Loaded before anything else: imports only what Python's own start has loaded, and `signal`.
"""

from __future__ import annotations

import os
import signal

from pubsubd_cli.exit_codes import INTERRUPTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

ENDING = (signal.SIGINT, signal.SIGTERM)


def end_at_once(code: int) -> None:
    """Where nothing has been taken that is to be put in order: a signal ends the process with `code`.

    One that the parent ignores, as `nohup` does, stays ignored.
    """
    for number in _heeded():
        signal.signal(number, lambda *_: os._exit(code))


def outlive_hangup() -> None:
    """SIGHUP does nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def ignore() -> None:
    """Where all is done: Python's end of the process gives signals back to the system, and the exit code would be theirs."""
    for number in (*ENDING, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class Telling:
    """Where something is under way: each signal calls the next of `tells`, in the main thread, at any bytecode of it.

    One more signal than there are `tells` ends the process at once.
    """

    def __init__(self, *tells: Callable[[], object]) -> None:
        self.told = 0
        self._tells = tells
        self._before: dict[int, Handler | int | None] = {}

    def __enter__(self) -> Telling:
        for number in _heeded():
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self.told == len(self._tells):
            os._exit(INTERRUPTED)
        self.told += 1
        self._tells[self.told - 1]()


def _heeded() -> list[signal.Signals]:
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
