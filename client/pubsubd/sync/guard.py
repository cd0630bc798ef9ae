"""Changes of state that a signal's handler may interrupt, or another thread may want to make at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pubsubd.errors import ReentrantCall
from pubsubd_protocol.errors import PubSubError

T = TypeVar("T")


class Guard:
    """Makes one change at a time. It notices a change that was broken off: then `mend` runs before the next one.

    The handler of a signal runs between any two steps of the main thread, and may raise. A `PubSubError` breaks
    nothing off: a change that raises it has kept its state whole.
    """

    __slots__ = ("_mend", "_torn", "lock")

    def __init__(self, mend: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        """To read the state with."""
        self._mend = mend
        self._torn = False

    def change(self, step: Callable[..., T], *arguments: Any) -> T:
        """The result of `step`. Raises `ReentrantCall` in a handler that interrupted a change of this state."""
        self.check()
        with self.lock:
            if self._torn:
                self._mend()
            self._torn = True
            try:
                result = step(*arguments)
            except PubSubError:
                self._torn = False
                raise
            self._torn = False
            return result

    def check(self) -> None:
        """Raises `ReentrantCall` in a handler, or a finalizer, that interrupted a change of this state."""
        if self.lock._is_owned():  # type: ignore[attr-defined]
            raise ReentrantCall(
                "the handler of a signal called this client in the middle of another call: let the handler set a flag "
                "or raise, and call the client elsewhere"
            )
