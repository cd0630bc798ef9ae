"""The load of the machine. Times of a broker only count on the processors that it gets."""

from __future__ import annotations

import time
from typing import Final

_LOOK_S: Final = 0.2


def crowding() -> float:
    """The time of a busy loop as a multiple of its processor time: 1 on an idle machine."""
    began, cpu = time.perf_counter(), time.thread_time()
    while time.thread_time() - cpu < _LOOK_S:
        pass
    return max(1.0, (time.perf_counter() - began) / _LOOK_S)


def slowness() -> float:
    """Factor for times of an idle machine: twice the present crowding, as that changes."""
    return 2 * crowding() - 1
