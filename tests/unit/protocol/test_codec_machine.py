"""Every frame comes through a byte stream as it was sent, wherever the stream is cut."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.feeding import feed
from tests.unit.examples import examples
from tests.unit.protocol import strategies
from tests.unit.protocol.samples import DIRECTED, ONE_TOPIC, SAMPLES, part
from tests.unit.protocol.strategies import same

from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Frame
from pubsubd_protocol.framing import PREFIX_BYTES, SMALL_BUFFER_BYTES, FrameReader

LIMIT = 16 * 1024 * 1024
LONGEST_SPLIT = 400
"""Random frames up to this length are cut at every point; the samples are all shorter."""

SIZES = st.integers(1, 40) | st.integers(1, 3 * SMALL_BUFFER_BYTES)

SLOW_TO_DRAW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
"""Session names and frames are drawn through filters; on a busy machine that takes its time."""

MORE_SAMPLES: dict[str, Frame] = {
    **SAMPLES,
    "Batch of one topic": ONE_TOPIC,
    "Batch for one node": DIRECTED,
    "Part of an entry": part(),
}


def _equal(a: Frame, b: Frame) -> bool:
    """By their bytes, and field by field: a field that the encoder forgets is in neither's bytes."""
    return same(a, b) and (a == b or isinstance(a, (Batch, Entry)))


# Every split point.


def _comes_through_at_every_split_point(frame: Frame) -> None:
    wire = encode(frame)
    for cut in range(len(wire) + 1):
        reader = FrameReader(len(wire) - PREFIX_BYTES)
        early = [decode(got) for got in feed(reader, wire[:cut])]
        assert len(early) == (cut == len(wire)), "a frame is there with its last byte, not before"
        assert reader.unfinished == (cut if cut < len(wire) else 0)
        got = early + [decode(rest) for rest in feed(reader, wire[cut:])]
        assert len(got) == 1
        assert _equal(got[0], frame)
        assert reader.unfinished == 0


@pytest.mark.parametrize("name", sorted(MORE_SAMPLES))
def test_every_sample_comes_through_at_every_split_point(name: str) -> None:
    _comes_through_at_every_split_point(MORE_SAMPLES[name])


@pytest.mark.parametrize("name", sorted(strategies.by_kind))
def test_any_frame_of_every_class_comes_through_at_every_split_point(name: str) -> None:
    @settings(max_examples=examples(25), deadline=None, suppress_health_check=SLOW_TO_DRAW)
    @given(strategies.by_kind[name].filter(lambda frame: len(encode(frame)) <= LONGEST_SPLIT))
    def comes_through(frame: Frame) -> None:
        _comes_through_at_every_split_point(frame)

    comes_through()


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_frame_comes_through_between_two_others_byte_by_byte(name: str) -> None:
    beat, frame = SAMPLES["Heartbeat"], SAMPLES[name]
    reader = FrameReader(LIMIT)
    got: list[Frame] = []
    for byte in b"".join(map(encode, (beat, frame, beat))):
        got += map(decode, feed(reader, bytes((byte,))))
    assert all(map(_equal, got, (beat, frame, beat)))
    assert len(got) == 3


# A pipe of bytes.


class PipeMachine(RuleBasedStateMachine):
    """A sender writes frames into a pipe, and a receiver reads pieces of any size from it.

    The model: the frames that were sent, each with the place in the stream at which it ends. The receiver gives
    exactly the frames that end before the last byte that has arrived. It refuses an invalid length as soon as that
    has arrived, at the place of its frame.
    """

    reader: FrameReader
    limit: int

    def __init__(self) -> None:
        super().__init__()
        self.pipe = b""
        """All that was sent, from the beginning."""
        self.arrived = 0
        self.sent: list[tuple[Frame, int]] = []
        self.spoilt: int | None = None
        """The place at which the first invalid length ends."""
        self.received = 0
        self.refusal: ProtocolError | None = None

    @initialize(limit=st.sampled_from([40, 100, 400, 5000, 20_000]))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.reader = FrameReader(limit)

    # The one end.

    @rule(frames=st.lists(strategies.any_frame, min_size=1, max_size=4))
    def send(self, frames: list[Frame]) -> None:
        for frame in frames:
            if len(encode(frame)) - PREFIX_BYTES <= self.limit:
                self._send(frame)

    @rule(names=st.lists(st.sampled_from(sorted(SAMPLES)), min_size=1, max_size=40))
    def send_a_burst(self, names: list[str]) -> None:
        """Together longer than the small buffer, so that it wraps around and grows."""
        self.send([SAMPLES[name] for name in names])

    @rule(under=st.integers(0, 1))
    def send_one_as_long_as_the_limit(self, under: int) -> None:
        self._send(self._as_long_as(self.limit - under))

    @rule(over=st.sampled_from([1, 1, 2, 500]))
    def send_one_over_the_limit(self, over: int) -> None:
        self._spoil(encode(self._as_long_as(self.limit + over)))

    @rule(length=st.sampled_from([0, 2**31, 2**32 - 1]))
    def send_a_length_that_no_frame_has(self, length: int) -> None:
        self._spoil(struct.pack(">I", length))

    def _as_long_as(self, size: int) -> Frame:
        empty = len(encode(strategies.batch_of([("t", b"")]))) - PREFIX_BYTES
        payload = bytes(n % 251 for n in range(size - empty))
        return strategies.batch_of([("t", payload)])

    def _send(self, frame: Frame) -> None:
        self.pipe += encode(frame)
        if self.spoilt is None:
            self.sent.append((frame, len(self.pipe)))

    def _spoil(self, wire: bytes) -> None:
        if self.spoilt is None:
            self.spoilt = len(self.pipe) + PREFIX_BYTES
        self.pipe += wire

    # The other end.

    @precondition(lambda self: self.refusal is None and self.arrived < len(self.pipe))
    @rule(size=SIZES)
    def a_piece_is_fed(self, size: int) -> None:
        self._take(feed(self.reader, self._piece(size)))

    @precondition(lambda self: self.refusal is None and self.arrived < len(self.pipe))
    @rule(size=SIZES)
    def a_piece_is_written_into_the_readers_space(self, size: int) -> None:
        space = self.reader.space()
        assert len(space) >= 1
        piece = self._piece(min(size, len(space)))
        space[: len(piece)] = piece
        self.reader.received(len(piece))
        self._take(self.reader.frames())

    def _piece(self, size: int) -> bytes:
        piece = self.pipe[self.arrived : self.arrived + size]
        self.arrived += len(piece)
        return piece

    def _take(self, frames: Iterator[memoryview]) -> None:
        try:
            for frame in frames:
                assert self.received < len(self.sent), "nothing comes out that was not sent"
                sent, end = self.sent[self.received]
                assert end <= self.arrived, "nothing comes out early"
                assert bytes(frame) == encode(sent)
                assert _equal(decode(frame), sent)
                self.received += 1
        except ProtocolError as error:
            self.refusal = error

    @invariant()
    def all_that_has_arrived_is_out(self) -> None:
        assert self.received == sum(end <= self.arrived for _, end in self.sent)

    @invariant()
    def what_is_not_allowed_is_refused_with_its_length_and_nothing_else_is(self) -> None:
        due = self.spoilt is not None and self.spoilt <= self.arrived
        assert (self.refusal is not None) == due
        assert self.refusal is None or self.refusal.kind == "frame_length"

    @invariant()
    def the_rest_is_counted(self) -> None:
        if hasattr(self, "reader") and self.refusal is None:
            taken = self.sent[self.received - 1][1] if self.received else 0
            assert self.reader.unfinished == self.arrived - taken

    def teardown(self) -> None:
        """Delivers all bytes that are still under way."""
        while self.refusal is None and self.arrived < len(self.pipe):
            self.a_piece_is_fed(1000)
        self.all_that_has_arrived_is_out()
        self.what_is_not_allowed_is_refused_with_its_length_and_nothing_else_is()


PipeMachine.TestCase.settings = settings(
    max_examples=examples(60),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=SLOW_TO_DRAW,
)
test_a_pipe_of_frames_agrees_with_the_list_of_what_was_sent = PipeMachine.TestCase
