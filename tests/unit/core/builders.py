"""Short forms of what the core's tests are made of."""

from __future__ import annotations

from tests.feeding import feed
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import ITEM_OVERHEAD, Now
from pubsubd_broker.core.log.log import Item, Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.codec import decode
from pubsubd_protocol.entries import Entry, open_entry, place_batch
from pubsubd_protocol.frames import CursorExpired, Frame, Skip, StreamPosition
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Epoch, Position, StreamView

E1, E2, E3, E4 = (Epoch(bytes([n]) * 16) for n in range(1, 5))
"""Epochs, in the order in which they were drawn."""

PUBLISHER = b"p" * 16

MANY = 2**40
"""A budget or bound that is never reached."""


def entry(
    first: int,
    count: int = 1,
    *,
    topic: str = "t",
    topics: list[str] | None = None,
    node: str = "a",
    epoch: Epoch = E1,
    to: str | None = None,
    publisher: bytes = PUBLISHER,
    payload: bytes = b"",
) -> Entry:
    """`count` messages at `first`, all of `topic`, or one for each of `topics`."""
    names = topics if topics is not None else [topic] * count
    batch = batch_of([(name, payload) for name in names], to=to)
    return place_batch(batch, node, epoch, first, 0, publisher)


def skip(first: int, following: int, *, node: str = "a", epoch: Epoch = E1) -> Skip:
    return Skip(node, epoch, first, following)


def at(offset: int, epoch: Epoch = E1) -> Position:
    return Position(epoch, offset)


def view(oldest: int, following: int, epoch: Epoch = E1, *lineage: tuple[Epoch, int]) -> StreamView:
    return StreamView(epoch, lineage, oldest, following)


def log_of(
    *items: Entry | Skip,
    max_messages: int = 1000,
    max_bytes: int = MANY,
    epoch: Epoch = E1,
    offset: int = 0,
) -> Log:
    log = Log(max_messages, max_bytes, epoch, (), offset)
    for item in items:
        log.append(item)
    return log


def frames_of(buffers: list[bytes]) -> list[Frame]:
    """The written buffers, as frames."""
    reader = FrameReader(2**30)
    frames = [decode(frame) for buffer in buffers for frame in feed(reader, buffer)]
    assert reader.unfinished == 0, "what is written ends with a whole frame"
    return frames


def frames_in(out: Outgoing) -> list[Frame]:
    frames = frames_of(out.buffers)
    assert len(frames) == out.frames
    return frames


def told(frames: list[Frame]) -> list[str]:
    """Frames in one word each, for comparing at a glance: `entry 3..5`, `skip 0..3`, `overwritten -> 9`, …"""
    return [_word(frame) for frame in frames]


def _word(frame: Frame) -> str:
    match frame:
        case Entry():
            offsets = open_entry(frame).offsets
            whole = frame.count == frame.next - frame.first
            where = "" if whole else f" only {','.join(map(str, offsets))}"
            return f"entry {frame.first}..{frame.next}{where}"
        case Skip():
            return f"skip {frame.first}..{frame.next}"
        case StreamPosition(_, position):
            return f"told {position.offset}"
        case CursorExpired(_, reason, _, view):
            return f"{reason} -> {view.next}"
    return type(frame).__name__


class Impatient:
    """An appender for logs that never hold an append."""

    def retry(self, now: Now) -> None:
        raise AssertionError("it was never held")


def cost_of(item: Item) -> tuple[int, int]:
    """Messages and bytes that `item` takes of a log's bounds."""
    return item.count, item.size + ITEM_OVERHEAD
