"""Lies of a producer in its answers: to an attach, and to a fetch with its messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.simulation.broker_socket import BrokerSocket
from tests.simulation.liars.lies import FALSE, Forge
from tests.simulation.liars.producers import TOO_FAR, false_entry
from tests.unit.protocol.samples import KINDS

from pubsubd_broker.core.limits import FETCH_BYTES
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_protocol.attach import Reason, Resume
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch, Entry, open_entry, place_batch
from pubsubd_protocol.frames import Attached, Fetched, Frame, Heartbeat, Skip
from pubsubd_protocol.positions import Epoch, Position

Said = tuple[tuple[Frame, ...], str]
"""The false frames in place of the honest ones, and the kind of violation."""


def _answer_against_view(attached: Attached, node: str, consumer: ConsumerEnd) -> Said | None:
    match attached.answer:
        case Resume(offset):
            said: Resume | Reason = Resume(offset + 1)
        case reason:
            said = Reason.AHEAD if reason is not Reason.AHEAD else Reason.STATE_LOST
    return (replace(attached, answer=said),), "attach"


def _expired_against_view(attached: Attached, node: str, consumer: ConsumerEnd) -> Said | None:
    if not isinstance(attached.answer, Resume):
        return None
    return (replace(attached, answer=Reason.OVERWRITTEN),), "attach"


def _view_beyond_all(attached: Attached, node: str, consumer: ConsumerEnd) -> Said | None:
    view = replace(attached.view, next=TOO_FAR)
    if isinstance(attached.answer, Resume) and attached.answer.offset == attached.view.next:
        # A reader that begins at the end would have to begin elsewhere.
        return None
    return (replace(attached, view=view),), "offset"


def _unasked(attached: Attached, node: str, consumer: ConsumerEnd) -> Said | None:
    view = attached.view
    return (Skip(node, view.epoch, view.next, view.next + 1),), "unexpected_frame"


_ATTACHED: Final[Mapping[str, Callable[[Attached, str, ConsumerEnd], Said | None]]] = {
    "an answer against its own view": _answer_against_view,
    "an expiry against its own view": _expired_against_view,
    "a view beyond all offsets": _view_beyond_all,
    "a message before the answer": _unasked,
}


@dataclass(frozen=True, slots=True)
class Fetch:
    """An honest answer to a fetch, and the part of the stream that its reader already holds."""

    node: str
    fetched: Fetched
    items: tuple[Entry | Skip, ...]
    consumer: ConsumerEnd
    comes_first: bool
    """Whether the reader will hold the same when this arrives, as no frame is under way to it."""

    def instead(self, kind: str, *items: Frame, count: int | None = None) -> Said:
        """The same answer with these frames behind it."""
        count = len(items) if count is None else count
        return (replace(self.fetched, count=count), *items), kind

    def holds(self, item: Entry | Skip) -> bool:
        """Whether the replica has an entry at the same place."""
        assert self.consumer.replica is not None
        log = self.consumer.replica.log
        index = log.locate(Position(item.epoch, item.first))
        held = log[index] if index is not None and log.begin <= index < log.end else None
        return isinstance(held, Entry) and (held.epoch, held.first) == (item.epoch, item.first)


def _fetched_against_view(fetch: Fetch) -> Said | None:
    if fetch.items:
        return None
    wrong = Resume(TOO_FAR) if fetch.fetched.answer is not Reason.AHEAD else Reason.STATE_LOST
    return (replace(fetch.fetched, answer=wrong),), "attach"


def _fetched_view_beyond_all(fetch: Fetch) -> Said | None:
    if not isinstance(fetch.fetched.answer, Resume) or fetch.items:
        return None
    return (replace(fetch.fetched, view=replace(fetch.fetched.view, next=TOO_FAR)),), "offset"


def _expired_with_messages(fetch: Fetch) -> Said | None:
    if not fetch.items:
        return None
    return (replace(fetch.fetched, answer=Reason.AHEAD), *fetch.items), "fetch"


def _more_than_announced(fetch: Fetch) -> Said | None:
    assert fetch.consumer.replica is not None
    newest = fetch.consumer.replica.log.newest.next
    if not fetch.items or fetch.items[-1].next > newest:
        return None
    # One entry too many: the reader has held that place for long.
    return fetch.instead("offset", *fetch.items, count=len(fetch.items) - 1)


def _fewer_than_announced(fetch: Fetch) -> Said | None:
    return (
        fetch.instead(
            "unexpected_frame", *fetch.items, Heartbeat(TOO_FAR), count=len(fetch.items) + 1
        )
        if isinstance(fetch.fetched.answer, Resume) and fetch.items
        else None
    )


def _hole(fetch: Fetch) -> Said | None:
    return fetch.instead("offset", *fetch.items[1:]) if len(fetch.items) > 1 else None


def _other_order(fetch: Fetch) -> Said | None:
    return fetch.instead("offset", *reversed(fetch.items)) if len(fetch.items) > 1 else None


def _another_stream(fetch: Fetch) -> Said | None:
    if not fetch.items:
        return None
    first = fetch.items[0]
    span = first.next - first.first
    return fetch.instead("stream", false_entry("elsewhere", first.epoch, first.first, span))


def _another_epoch(fetch: Fetch) -> Said | None:
    if not fetch.items:
        return None
    first = fetch.items[0]
    epoch, span = Epoch(b"another history."), first.next - first.first
    return fetch.instead("epoch", false_entry(fetch.node, epoch, first.first, span))


def _beyond_its_view(fetch: Fetch) -> Said | None:
    view, sizes = fetch.fetched.view, [i.size for i in fetch.items if isinstance(i, Entry)]
    # A reader that reaches the budget has to stop there, and that rule would be broken first.
    if not fetch.items or fetch.items[-1].next != view.next or sum(sizes) >= FETCH_BYTES // 2:
        return None
    return fetch.instead("epoch", *fetch.items, false_entry(fetch.node, view.epoch, view.next))


def _more_than_asked(fetch: Fetch) -> Said | None:
    asked, answer = fetch.consumer._fetching.get(fetch.fetched.id), fetch.fetched.answer
    if asked is None or asked.budget or not isinstance(answer, Resume):
        return None
    return fetch.instead("fetch", false_entry(fetch.node, fetch.fetched.view.epoch, answer.offset))


def _other_bytes(fetch: Fetch) -> Said | None:
    if not fetch.comes_first:
        # Entries before it may push out the place, which then cannot be compared.
        return None
    for at, item in enumerate(fetch.items):
        if isinstance(item, Entry) and fetch.holds(item):
            said = (*fetch.items[:at], _rewritten(item), *fetch.items[at + 1 :])
            return fetch.instead("content", *said)
    return None


def _rewritten(entry: Entry) -> Entry:
    """An entry at the same place with other messages, of the same lengths."""
    columns = open_entry(entry)
    lengths = columns.lengths
    payloads = (FALSE * (sum(lengths) // len(FALSE) + 1))[: sum(lengths)]
    index = pack_numbers("H", list(columns.index)) if "\n" in entry.topics else b""
    batch = Batch(
        columns.sequence, False, entry.to, entry.topics, index, pack_numbers("I", lengths), payloads
    )
    return place_batch(
        batch, entry.node, entry.epoch, entry.first, columns.time_us, entry.publisher
    )


_FETCHED: Final[Mapping[str, Callable[[Fetch], Said | None]]] = {
    "a fetch answered against its own view": _fetched_against_view,
    "a fetch answered with a view beyond all offsets": _fetched_view_beyond_all,
    "messages for an expired cursor": _expired_with_messages,
    "more fetched than announced": _more_than_announced,
    "another frame among what is fetched": _fewer_than_announced,
    "a hole in what is fetched": _hole,
    "what is fetched in another order": _other_order,
    "fetched of another stream": _another_stream,
    "fetched of another epoch": _another_epoch,
    "fetched beyond its own view": _beyond_its_view,
    "more fetched than asked": _more_than_asked,
    "other bytes in a place that was read": _other_bytes,
}


def _of_attached(
    socket: BrokerSocket, buffers: list[bytes], name: str
) -> tuple[list[bytes], str] | None:
    consumer = _consumer(socket)
    for at, buffer in enumerate(buffers):
        if consumer is None or not _is(buffer, "Attached"):
            continue
        honest = decode(memoryview(buffer))
        assert isinstance(honest, Attached)
        said = _ATTACHED[name](honest, socket.broker.name, consumer)
        if said is not None:
            return [*buffers[:at], *map(encode, said[0]), *buffers[at + 1 :]], said[1]
    return None


def _of_fetched(
    socket: BrokerSocket, buffers: list[bytes], name: str
) -> tuple[list[bytes], str] | None:
    consumer = _consumer(socket)
    if consumer is None or consumer.replica is None:
        return None
    for at, buffer in enumerate(buffers):
        if not _is(buffer, "Fetched"):
            continue
        honest = decode(memoryview(buffer))
        assert isinstance(honest, Fetched)
        behind = at + 1 + honest.count
        items = [decode(memoryview(each)) for each in buffers[at + 1 : behind]]
        only = tuple(item for item in items if isinstance(item, Entry | Skip))
        assert len(only) == len(items), "messages of the simulator are small: one buffer each"
        first = at == 0 and socket.nothing_under_way and consumer._connection.wants_more
        said = _FETCHED[name](Fetch(socket.broker.name, honest, only, consumer, first))
        if said is not None:
            return [*buffers[:at], *map(encode, said[0]), *buffers[behind:]], said[1]
    return None


def _consumer(socket: BrokerSocket) -> ConsumerEnd | None:
    """The end that reads the frames of `socket`, if it pulls a stream."""
    reader = socket.wire.out.sender
    end = reader.connection.end if isinstance(reader, BrokerSocket) else None
    return end if isinstance(end, ConsumerEnd) and reader is not socket else None


def _is(buffer: bytes, kind: str) -> bool:
    return len(buffer) > 5 and buffer[5] == KINDS[kind]


def _forge(
    of: Callable[[BrokerSocket, list[bytes], str], tuple[list[bytes], str] | None], name: str
) -> Forge:
    return lambda socket, buffers: of(socket, buffers, name)


ATTACHES: Final = {f"producer: {name}": _forge(_of_attached, name) for name in _ATTACHED}
FETCHES: Final = {f"producer: {name}": _forge(_of_fetched, name) for name in _FETCHED}
