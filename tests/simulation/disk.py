"""A simulated disk under a journal. A power loss keeps, drops, tears or garbles data that was not made durable."""

from __future__ import annotations

import random

from pubsubd_broker.core.journal.journal import Append, Create, Remove, Work


class _File:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0
        """Bytes that survive a power loss."""
        self.named = False
        """Whether the file's name survives a power loss."""


class Disk:
    """The segments of one broker's journal. It outlives the broker's lives."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._removed: dict[int, _File] = {}

    def read(self) -> list[tuple[int, bytes]]:
        return [(number, bytes(file.data)) for number, file in sorted(self._files.items())]

    def numbers(self) -> tuple[int, ...]:
        return tuple(sorted(self._files))

    def perform(self, work: Work) -> None:
        for step in work.steps:
            self._do(step, work)
        if work.sync:
            self._removed.clear()
            for file in self._files.values():
                file.synced, file.named = len(file.data), True

    def begin_to_perform(self, work: Work, chance: random.Random) -> None:
        """Do some of the work as the process dies."""
        done = chance.randint(0, len(work.steps))
        for step in work.steps[:done]:
            self._do(step, work)
        match work.steps[done:]:
            case [Append(number, buffers), *_]:
                data = b"".join(buffers)
                self._files[number].data += data[: chance.randint(0, len(data))]

    def lose_power(self, chance: random.Random) -> None:
        """Data that is not durable stays, goes, or turns into other bytes."""
        for number, file in list(self._removed.items()):
            if chance.random() < 0.5:
                self._files[number] = file
        self._removed.clear()
        for number, file in list(self._files.items()):
            if not file.named and chance.random() < 0.5:
                del self._files[number]
                continue
            begin = file.synced
            unsure = bytearray(file.data[begin:])
            cut = chance.randint(0, len(unsure))
            match chance.choice(["kept", "dropped", "torn", "zeroed", "garbled"]):
                case "dropped":
                    unsure.clear()
                case "torn":
                    del unsure[cut:]
                case "zeroed":
                    unsure[cut:] = bytes(len(unsure) - cut)
                case "garbled" if cut < len(unsure):
                    unsure[cut] ^= 1 << chance.randint(0, 7)
            file.data[begin:] = unsure
            file.synced, file.named = len(file.data), True

    @property
    def has_unsure(self) -> bool:
        """Whether a power loss now may change the disk."""
        files = self._files.values()
        return bool(self._removed) or any(f.synced < len(f.data) or not f.named for f in files)

    def rot(self, chance: random.Random) -> None:
        """Flip a bit of durable data."""
        whole = [file for file in self._files.values() if file.data]
        if whole:
            file = chance.choice(whole)
            file.data[chance.randrange(len(file.data))] ^= 1 << chance.randint(0, 7)

    def _do(self, step: Append | Create | Remove, work: Work) -> None:
        match step:
            case Append(number, buffers):
                self._files[number].data += b"".join(buffers)
            case Create(number, buffers):
                if work.sync:
                    # A new segment appears only once the segment before it is whole.
                    for each in self._files.values():
                        each.synced, each.named = len(each.data), True
                file = self._files[number] = _File()
                file.data += b"".join(buffers)
                if work.sync:
                    file.synced, file.named = len(file.data), True
            case Remove(number):
                if number in self._files:
                    self._removed[number] = self._files.pop(number)
