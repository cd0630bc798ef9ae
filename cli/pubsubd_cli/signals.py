"""SIGINT and SIGTERM, which end every command, also one that is process 1 of a container.

The kernel delivers a signal to process 1 only if the process has a handler for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from pubsubd_cli.exit_codes import INTERRUPTED, Interrupted

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def install() -> None:
    """Outside of a loop: a signal raises `Interrupted`. One that the parent ignores, as `nohup` does, stays ignored."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


@contextmanager
def handled(by: Callable[[], None]) -> Iterator[None]:
    """Inside of a loop: the first signal calls `by`, a second one ends the process at once."""
    import asyncio

    loop = asyncio.get_running_loop()
    seen = False

    def take() -> None:
        nonlocal seen
        if seen:
            os._exit(INTERRUPTED)
        seen = True
        by()

    mine = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in mine:
        loop.add_signal_handler(number, take)
    try:
        yield
    finally:
        for number in mine:
            loop.remove_signal_handler(number)
        install()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted
