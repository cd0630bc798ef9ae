"""A broker's machine: what outlives its process, and what can be known by that of how its last life ended.

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
    """What the code under test wrote there."""
    begin: int = 0
    """Where its life went on."""


class Machine:
    """`life`: the epoch of the stream that was served here last."""

    def __init__(self, chance: random.Random) -> None:
        """`chance`: of its own, so that what becomes of witnesses changes nothing else of a plan."""
        self.boot = 0
        self.life: str | None = None
        self.stopped = False
        """Whether that life ended cleanly."""
        self.folder: Trace | None = None
        self.beside: Trace | None = None
        self.chance = chance
        self.forgotten: set[str] = set()
        """Lives of which no trace is left: nobody can know of them."""
        self._inode = 0

    def begins(self, life: str, *, in_folder: bool | None) -> None:
        """A life begins to accept messages, and leaves its witnesses for that.

        `in_folder`: also in its folder; False if it leaves nothing there before it stops. None: it has no folder.
        """
        self.life, self.stopped = life, False
        self.beside = self._file(life)
        if in_folder is not None:
            self.folder = self._file(life) if in_folder else None

    def stops(self, *, in_folder: bool) -> None:
        """The last life ends cleanly. `in_folder`: it leaves its witness in its folder only now."""
        self.stopped = True
        if in_folder and self.life is not None:
            self.folder = self._file(self.life)

    def lose_power(self) -> list[Trace]:
        """What lies beside the socket may have been in memory alone; a new name in the folder may not be there yet.

        Returns those of which what was stored last did not come to the disk.
        """
        self.boot += 1
        if self.chance.random() < 0.5:
            self._forget_beside()
        if self.chance.random() < 0.1:
            self.folder = None
        left = [trace for trace in (self.folder, self.beside) if trace is not None]
        return [trace for trace in left if self.chance.random() < 0.5]

    def put_back(self, trace: Trace | None) -> None:
        """The folder is an older copy of itself."""
        self._inode += 1
        if trace is not None:
            trace = replace(trace, good=False, inode=self._inode, data=bytearray(trace.data))
        self.folder = trace

    def lose_witness(self, chance: random.Random) -> str:
        """Somebody removes or spoils one of the witnesses, or both. Returns what became of them."""
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
        """Whether it can be known how much of what was accepted under `epoch` is missing now.

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
