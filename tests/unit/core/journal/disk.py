"""A journal's folder in memory: does what a journal says, and is read again by the next life."""

from __future__ import annotations

from pubsubd_broker.core.journal.journal import Append, Create, Fsync, Remove, Work
from pubsubd_broker.core.journal.keeper import Kept
from pubsubd_broker.core.journal.recovery import Judge, Recovered, recover
from pubsubd_broker.core.journal.whole_end import RecoveredEnd
from pubsubd_broker.core.limits import SECOND_NS


def by_its_own_word(end: RecoveredEnd) -> int | None:
    """A `Judge` that has found no witness, and believes the bytes: of a whole end nothing is lost."""
    return 0 if end.promised else None


class Disk:
    """`segments`: the bytes of each, by number. `lose_power` leaves what was made durable."""

    def __init__(self, fsync: Fsync = Fsync.ALWAYS, interval_ns: int = SECOND_NS) -> None:
        self.fsync = fsync
        self.interval_ns = interval_ns
        self.segments: dict[int, bytes] = {}
        self._durable: dict[int, bytes] = {}

    def perform(self, work: Work) -> None:
        for step in work.steps:
            match step:
                case Append(number, buffers):
                    assert number == max(self.segments), "only the newest segment is appended to"
                    self.segments[number] += b"".join(buffers)
                case Create(number, buffers):
                    assert number > max(self.segments, default=0), "numbers only grow"
                    self.segments[number] = b"".join(buffers)
                case Remove(number):
                    del self.segments[number]
        if work.sync:
            self._durable = dict(self.segments)

    def die_in(self, work: Work, share: float) -> None:
        """Does this share of the steps of `work`, and of an append a part."""
        whole = int(share * len(work.steps))
        self.perform(Work(False, work.steps[:whole]))
        if whole < len(work.steps):
            step = work.steps[whole]
            if isinstance(step, Append):
                data = b"".join(step.buffers)
                part = data[: int((share * len(work.steps) - whole) * len(data))]
                self.perform(Work(False, [Append(step.segment, [part])]))

    def lose_power(self) -> None:
        self.segments = dict(self._durable)

    def read(self) -> list[tuple[int, bytes]]:
        return sorted(self.segments.items())

    def judge(self, end: RecoveredEnd) -> int | None:
        """The number of accepted messages missing behind those on the disk."""
        return by_its_own_word(end)

    def recover(self, node: str = "a", judge: Judge | None = None) -> Recovered | None:
        return recover(node, self.read(), judge or self.judge)

    def kept(self, node: str, judge: Judge | None = None) -> Kept:
        """The recovered state for a life of `node` that starts now. `judge`: replaces the disk's count of missing messages."""
        numbers = tuple(sorted(self.segments))
        return Kept(self.fsync, self.interval_ns, 64 * 1024, self.recover(node, judge), numbers)
