"""Liveness of one connection to the broker, judged by the client. Pure.

The broker's welcome says how often it sends at least, and after which silence the client counts it as gone. Silence
counts only while the client listens: not while its own event loop stood still, and not while it does not read because
the application asks for no messages.
"""

from __future__ import annotations


class Pulse:
    """A beat each `interval_s`. `silent_s`: silence after which the broker counts as gone."""

    __slots__ = ("_beat_s", "_listened_s", "interval_s", "silent_s")

    def __init__(self, interval_s: float, silent_s: float, now_s: float) -> None:
        self.interval_s = interval_s
        self.silent_s = silent_s
        self._beat_s = now_s
        self._listened_s = 0.0

    def beat(self, now_s: float, *, heard: bool, reads: bool) -> bool:
        """Whether the broker counts as gone. `heard`: bytes came since the last beat. `reads`: the client reads now."""
        passed_s = now_s - self._beat_s
        self._beat_s = now_s
        late = passed_s > 2 * self.interval_s
        if heard or late or not reads:
            self._listened_s = 0.0
        else:
            self._listened_s += passed_s
        return self._listened_s >= self.silent_s
