"""Many threads that wait for one connection: one of them serves it for all, and the others sleep."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from threading import get_ident

from pubsubd.sync.guard import Guard


class _Sleeper:
    """A thread that sleeps until it is woken. A wake-up that comes before the sleep counts."""

    __slots__ = ("_asleep", "done")

    def __init__(self, done: Callable[[], bool]) -> None:
        self.done = done
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def sleep(self, timeout_s: float) -> None:
        self._asleep.acquire(timeout=max(0.0, min(timeout_s, threading.TIMEOUT_MAX)))

    def wake(self) -> None:
        if self._asleep.locked():
            self._asleep.release()


class Service:
    """The right to serve a connection, and the threads that sleep meanwhile.

    The thread that serves wakes each sleeper whose condition holds. When it leaves, another one serves.
    """

    __slots__ = ("_guard", "_leave", "_serve", "_server", "_sleepers")

    def __init__(
        self, guard: Guard, serve: Callable[[float], None], leave: Callable[[], None]
    ) -> None:
        """`serve`: blocks until something happens, or until the given time of the clock, and deals with it.

        `leave`: called when no thread serves any more.
        """
        self._guard = guard
        self._serve = serve
        self._leave = leave
        self._server = 0
        """The thread that serves; 0 for none."""
        self._sleepers: list[_Sleeper] = []

    @property
    def served(self) -> bool:
        """Whether a thread serves now."""
        return self._server != 0

    def wait(self, done: Callable[[], bool], deadline_s: float = math.inf) -> bool:
        """Wait until `done`, or until `deadline_s` of `time.monotonic`. Returns whether it is done.

        `done` is called with the guard's lock. An error of `serve`, or of a signal's handler, ends the wait.
        """
        me = get_ident()
        sleeper: _Sleeper | None = None
        took = False
        # Once in any case: what has come already counts.
        tried = False
        try:
            while True:
                # Set before the lock is released, so that no wake-up is missed.
                with self._guard.lock:
                    if took:
                        self._wake_done()
                    if done():
                        return True
                    if tried and deadline_s <= time.monotonic():
                        return False
                    tried = True
                    if self._server == 0:
                        self._server = me
                        took = True
                    # A signal's handler may wait in the middle of this thread's own wait.
                    serves = self._server == me
                    if not serves:
                        sleeper = _Sleeper(done)
                        self._sleepers.append(sleeper)
                if serves:
                    self._serve(deadline_s)
                elif sleeper is not None:
                    sleeper.sleep(deadline_s - time.monotonic())
                    self._forget(sleeper)
                    sleeper = None
        finally:
            # A store of an attribute is not interrupted by a signal's handler, a call may be.
            if took:
                self._server = 0
            handed_over = False
            try:
                self._hand_over(sleeper)
                handed_over = True
            finally:
                if not handed_over:
                    self._hand_over(sleeper)

    def wake(self) -> None:
        """Wake the sleepers whose condition holds."""
        with self._guard.lock:
            self._wake_done()

    def _wake_done(self) -> None:
        for sleeper in self._sleepers:
            if sleeper.done():
                sleeper.wake()

    def _forget(self, sleeper: _Sleeper) -> None:
        with self._guard.lock:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    def _hand_over(self, sleeper: _Sleeper | None) -> None:
        """Leave. If no thread serves, the next sleeper wakes up to do it."""
        if sleeper is not None:
            self._forget(sleeper)
        if self._server == 0:
            with self._guard.lock:
                waiting = self._sleepers[0] if self._sleepers else None
                if waiting is not None:
                    waiting.wake()
            if waiting is None:
                self._leave()
