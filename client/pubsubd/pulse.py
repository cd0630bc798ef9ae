"""Liveness of one connection to the broker, judged from the client's side. Pure.

The broker says in its welcome how often it speaks at the least. A client that has read, and has got nothing for longer
than the broker allows itself, takes it for stopped. A client whose own loop stood still, or that did not read because its
application asked for nothing, has not listened: that time does not count.
"""

from __future__ import annotations


class Pulse:
    """One beat in each `interval_s`. `silent_s`: a broker that is not heard for this long does not answer."""

    __slots__ = ("_beat_s", "_listened_s", "interval_s", "silent_s")

    def __init__(self, interval_s: float, silent_s: float, now_s: float) -> None:
        self.interval_s = interval_s
        self.silent_s = silent_s
        self._beat_s = now_s
        self._listened_s = 0.0

    def beat(self, now_s: float, *, heard: bool, reads: bool) -> bool:
        """Whether the broker is silent. `heard`: something came since the last beat. `reads`: the client takes what comes."""
        passed_s = now_s - self._beat_s
        self._beat_s = now_s
        late = passed_s > 2 * self.interval_s
        if heard or late or not reads:
            self._listened_s = 0.0
        else:
            self._listened_s += passed_s
        return self._listened_s >= self.silent_s
