"""How crowded the machine is: what the broker does within a time counts only on processors that it gets."""

from __future__ import annotations

import time
from typing import Final

_LOOK_S: Final = 0.2


def crowding() -> float:
    """How many times as long as its processor time a busy loop takes at this moment: 1 on an idle machine."""
    began, cpu = time.perf_counter(), time.thread_time()
    while time.thread_time() - cpu < _LOOK_S:
        pass
    return max(1.0, (time.perf_counter() - began) / _LOOK_S)


def slowness() -> float:
    """By what a time of an idle machine is multiplied: twice what this moment asks for, as crowding changes."""
    return 2 * crowding() - 1
