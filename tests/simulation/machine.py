"""A broker's machine: the files that outlive its process, and the proofs that they hold about its last life.

This is counted apart from the code that has to know it. The checkers take from here whether a loss could be proven.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Trace:
    """A file in a place where each life leaves its witness. `good`: it is whole, and the very file that was written."""

    life: str
    boot: int
    inode: int
    good: bool = True
    data: bytearray = field(default_factory=bytearray)
    """The bytes that the code under test wrote there."""
    begin: int = 0
    """The offset at which its life began."""


class Machine:
    """`life`: the epoch of the stream that was served here last."""

    def __init__(self, chance: random.Random) -> None:
        """`chance`: a source of its own, so that the fate of witnesses changes no other part of a plan."""
        self.boot = 0
        self.life: str | None = None
        self.stopped = False
        """Whether that life ended cleanly."""
        self.folder: Trace | None = None
        self.beside: Trace | None = None
        self.chance = chance
        self.forgotten: set[str] = set()
        """Lives without a trace: the producer cannot know of them."""
        self._inode = 0

    def begins(self, life: str, *, in_folder: bool | None) -> None:
        """A life begins to accept messages, and leaves its witnesses.

        `in_folder`: also in its folder; False if it leaves none there before it stops. None: it has no folder.
        """
        self.life, self.stopped = life, False
        self.beside = self._file(life)
        if in_folder is not None:
            self.folder = self._file(life) if in_folder else None

    def stops(self, *, in_folder: bool) -> None:
        """The last life ends cleanly. `in_folder`: it leaves the witness in its folder only now."""
        self.stopped = True
        if in_folder and self.life is not None:
            self.folder = self._file(self.life)

    def lose_power(self) -> list[Trace]:
        """Lose the files beside the socket, which may be in memory alone, and names in the folder that are not
        durable.

        Returns the files whose last stored bytes did not reach the disk.
        """
        self.boot += 1
        if self.chance.random() < 0.5:
            self._forget_beside()
        if self.chance.random() < 0.1:
            self.folder = None
        left = [trace for trace in (self.folder, self.beside) if trace is not None]
        return [trace for trace in left if self.chance.random() < 0.5]

    def put_back(self, trace: Trace | None) -> None:
        """Replace the folder by an older copy."""
        self._inode += 1
        if trace is not None:
            trace = replace(trace, good=False, inode=self._inode, data=bytearray(trace.data))
        self.folder = trace

    def lose_witness(self, chance: random.Random) -> str:
        """Remove or spoil one or both of the witnesses. Returns their fates."""
        folder, beside = chance.choice([(True, False), (False, True), (True, True)])
        spoilt = chance.random() < 0.5
        if spoilt:
            for trace in (self.folder if folder else None, self.beside if beside else None):
                if trace is not None:
                    trace.good = False
                    if trace.data:
                        trace.data[chance.choice([*range(100), -1, -8])] ^= 1 << chance.randint(
                            0, 7
                        )
        else:
            self.folder = None if folder else self.folder
            if beside:
                self._forget_beside()
        where = [place for place, there in (("folder", folder), ("beside", beside)) if there]
        return f"{'spoilt' if spoilt else 'removed'}: {', '.join(where)}"

    def proves(self, epoch: str, *, promised: bool) -> bool:
        """Whether the number of messages accepted under `epoch` and missing now can be known.

        `promised`: the journal on disk is the newest one and says by itself that it is whole.
        """
        traces = [trace for trace in (self.folder, self.beside) if trace is not None]
        if self.life != epoch or not all(t.good and t.life == epoch for t in traces):
            return False
        counted = any(trace.boot == self.boot for trace in traces)
        return counted or (promised and self.folder is not None)

    def _forget_beside(self) -> None:
        if self.beside is not None and (
            self.folder is None or self.folder.life != self.beside.life
        ):
            self.forgotten.add(self.beside.life)
        self.beside = None

    def _file(self, life: str) -> Trace:
        self._inode += 1
        return Trace(life, self.boot, self._inode)
