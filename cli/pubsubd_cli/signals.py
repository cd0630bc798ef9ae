"""Handlers of SIGINT and SIGTERM for each phase of a process. No handler swallows a signal, and none raises.

An exception from a handler can occur at any bytecode. A finaliser, a weak reference's callback or the import machinery
may drop it, and thereby the signal. Therefore a handler ends the process at once, or tells the event loop. Process 1 of
a container needs handlers in any case: the kernel does not deliver it signals without one.

Imported before all else, so it imports only `signal` and modules that Python itself has loaded.
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
    """End the process with `code` at a signal. For phases in which there is nothing to clean up.

    A signal that the parent process ignores stays ignored (`nohup`).
    """
    for number in _heeded():
        signal.signal(number, lambda *_: os._exit(code))


def outlive_hangup() -> None:
    """Ignore SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def ignore() -> None:
    """Ignore all signals, once the exit code is known: at exit Python restores the default handlers, which change it."""
    for number in (*ENDING, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class SignalTelling:
    """While it is entered, each signal calls the next of `tells`, in the main thread, at any bytecode.

    A signal after the last of `tells` ends the process at once.
    """

    def __init__(self, *tells: Callable[[], object]) -> None:
        self.told = 0
        self._tells = tells
        self._before: dict[int, Handler | int | None] = {}

    def __enter__(self) -> SignalTelling:
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
