"""The time that a healed cluster gets fits what its wires carry."""

from __future__ import annotations

import random

import pytest
from tests.simulation.clockwork import MS, Clockwork
from tests.simulation.peace import SETTLES_MS, peace_ms
from tests.simulation.wires import Wire

FRAMES = 3000
SLOWEST_MS = 30


class Reader:
    """An end that takes all bytes."""

    def bytes_in(self, data: bytes) -> None: ...
    def has_room(self) -> None: ...
    def ended(self) -> bool:
        return False

    def gone(self) -> None: ...
    def reads(self) -> bool:
        return True


class Writer(Reader):
    """An end that writes a frame whenever its wire takes more."""

    def __init__(self, wire: Wire, frame: bytes) -> None:
        self._wire = wire
        self._frame = frame
        self.left = FRAMES

    def has_room(self) -> None:
        while self.left and not self._wire.out.full:
            self.left -= 1
            self._wire.out.send(self._frame)


def carried_ms(frame_bytes: int, capacity: int) -> int:
    """Virtual time in which a wire carries all frames."""
    clockwork = Clockwork()
    wire = Wire(
        clockwork, random.Random(1), capacity=capacity, slowest_ms=SLOWEST_MS, ends=("a", "b")
    )
    writer = Writer(wire, bytes(frame_bytes))
    wire.join(writer, Reader())
    began_ns = clockwork.now_ns
    writer.has_room()
    while writer.left or not wire.out.empty:
        clockwork.run_until(clockwork.now_ns + 100 * MS)
    return (clockwork.now_ns - began_ns) // MS


def carrying_ms() -> int:
    return peace_ms(FRAMES, SLOWEST_MS) - SETTLES_MS


@pytest.mark.parametrize("capacity", [0, 50, 1000])
@pytest.mark.parametrize("frame_bytes", [1, 97, 1000, 20_000])
def test_a_wire_carries_its_frames_in_the_time_for_them(frame_bytes: int, capacity: int) -> None:
    assert carried_ms(frame_bytes, capacity) <= carrying_ms()


def test_long_frames_on_a_narrow_wire_need_most_of_that_time() -> None:
    assert carried_ms(20_000, 0) > 0.9 * carrying_ms()


def test_a_cluster_that_has_nothing_to_publish_only_settles() -> None:
    assert peace_ms(0, SLOWEST_MS) == SETTLES_MS
    assert peace_ms(5000, 0) == SETTLES_MS
