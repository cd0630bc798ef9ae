"""Costs as counts: the same on every machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls_of(action: Callable[[], object], *, of: str = "") -> int:
    """How many Python functions are called, of those whose file's path holds `of`."""
    calls = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call" and of in frame.f_code.co_filename

    # A collection calls finalizers of anything, and whoever asked to be told of it, at a moment of its own.
    gc.disable()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls
