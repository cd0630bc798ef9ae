"""Simulated connections: two byte streams that split, delay, hold, fill up and break like a socket's."""

from __future__ import annotations

import random
from typing import Protocol

from tests.simulation.clockwork import MS, Clockwork


class Socket(Protocol):
    """An end of a wire, as its owner sees it."""

    def bytes_in(self, data: bytes) -> None: ...
    def has_room(self) -> None: ...
    def ended(self) -> bool:
        """The other end has closed. Returns whether it still reads."""

    def gone(self) -> None: ...
    def reads(self) -> bool:
        """Whether its process runs and reads."""


class Pipe:
    """A direction of a wire. Bytes arrive in order, split anywhere, each piece after a delay."""

    def __init__(self, wire: Wire, capacity: int) -> None:
        self._wire = wire
        self._capacity = capacity
        self._bytes = bytearray()
        self._planned = False
        self._finished = False
        self._fuse: int | None = None
        self.ended = False
        """Whether its sender has closed it, and all bytes before that have arrived."""
        self.sent = 0
        """The number of bytes that ever went in."""
        self.held = False
        self.receiver: Socket | None = None
        self.sender: Socket | None = None

    @property
    def full(self) -> bool:
        return len(self._bytes) > self._capacity

    @property
    def empty(self) -> bool:
        return not self._bytes

    @property
    def arrived(self) -> int:
        """The number of these bytes that came out."""
        return self.sent - len(self._bytes)

    def send(self, data: bytes) -> None:
        if not self._wire.broken:
            self._bytes += data
            self.sent += len(data)
            self.plan()

    def burn(self, more: int) -> None:
        """Cut the wire when all bytes under way now, and `more` bytes, have arrived."""
        self._fuse = max(0, len(self._bytes) + more)
        if self._fuse == 0:
            self._wire.cut(silent=False)

    def finish(self) -> None:
        """The sender closes: the receiver learns of it behind the last byte."""
        self._finished = True
        self.plan()

    def plan(self) -> None:
        if not self._planned and not self.held:
            self._planned = True
            self._wire.clockwork.after(self._wire.delay_ns(), self._arrive)

    def _arrive(self) -> None:
        self._planned = False
        receiver = self.receiver
        if self.held or self._wire.broken or receiver is None or not receiver.reads():
            return
        if self._bytes:
            was_full = self.full
            size = self._wire.piece(len(self._bytes))
            if self._fuse is not None:
                size = min(size, self._fuse)
                self._fuse -= size
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
            receiver.bytes_in(data)
            if self._fuse == 0:
                self._wire.cut(silent=False)
            if was_full and not self.full and self.sender is not None and not self._wire.broken:
                self.sender.has_room()
        if self._bytes:
            self.plan()
        elif self._finished and not self.ended:
            self.ended = True
            if not receiver.ended():
                self._wire.broken = True
                receiver.gone()


class Wire:
    """A connection between `near` and `far`; `out` carries near's bytes, `back` far's."""

    def __init__(
        self,
        clockwork: Clockwork,
        chance: random.Random,
        *,
        capacity: int,
        slowest_ms: int,
        ends: tuple[str, str],
    ) -> None:
        self.clockwork = clockwork
        self.ends = ends
        """Node names; equal for a client's connection to its own broker."""
        self.local = ends[0] == ends[1]
        self.broken = False
        self._chance = chance
        self._slowest_ms = slowest_ms
        self.out = Pipe(self, capacity)
        self.back = Pipe(self, capacity)

    def join(self, near: Socket, far: Socket) -> None:
        self.out.sender = self.back.receiver = near
        self.out.receiver = self.back.sender = far

    def delay_ns(self) -> int:
        return self._chance.randint(0, self._slowest_ms * MS)

    def piece(self, available: int) -> int:
        """The number of available bytes that arrive at once: often all, sometimes 1."""
        if self._chance.random() < 0.5:
            return available
        return self._chance.randint(1, available)

    def cut(self, *, silent: bool) -> None:
        """Bytes under way are lost. The ends are told after a while, or never (`silent`)."""
        if self.broken:
            return
        self.broken = True
        if not silent:
            for socket in (self.out.sender, self.out.receiver):
                if socket is not None:
                    self.clockwork.after(self.delay_ns(), socket.gone)
