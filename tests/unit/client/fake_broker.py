"""A scripted broker on a real Unix socket: it does what a test tells it, with the protocol's own frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgpack
from tests.feeding import feed

import pubsubd
from pubsubd_protocol import codec
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch, Entry, place_batch
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import (
    FilterSet,
    Frame,
    Heartbeat,
    Hello,
    Query,
    Receipt,
    Refused,
    Rejected,
    Report,
    SetFilter,
    Subscribe,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Epoch, Position

LIMIT_S = 20.0
EPOCH = Epoch(b"e" * 16)
OTHER_EPOCH = Epoch(b"f" * 16)


def entry(
    first: int,
    *payloads: object,
    node: str = "a",
    epoch: Epoch = EPOCH,
    topics: tuple[str, ...] = ("t",),
) -> Entry:
    """Messages from offset `first` on; with several topics, one for each message."""
    return raw_entry(
        first, *(msgpack.packb(p) for p in payloads), node=node, epoch=epoch, topics=topics
    )


def raw_entry(
    first: int,
    *payloads: bytes,
    node: str = "a",
    epoch: Epoch = EPOCH,
    topics: tuple[str, ...] = ("t",),
) -> Entry:
    index = pack_numbers("H", range(len(topics))) if len(topics) > 1 else b""
    lengths = pack_numbers("I", [len(p) for p in payloads])
    batch = Batch(0, False, None, "\n".join(topics), index, lengths, b"".join(payloads))
    return place_batch(batch, node, epoch, first, 1_700_000_000_000_000, b"p" * 16)


class Peer:
    """An accepted connection."""

    def __init__(self, writer: asyncio.StreamWriter, hello: Hello) -> None:
        self.writer = writer
        self.hello = hello
        self.beats = False
        """Whether a sign of life stood behind its hello. It is not among `frames`."""
        self.frames: list[Frame] = []

    def send(self, *frames: Frame) -> None:
        self.writer.write(b"".join(map(codec.encode, frames)))

    def cut(self) -> None:
        self.writer.transport.abort()


class FakeBroker:
    """Welcomes all clients, accepts what is published, opens sessions at the stream's end.

    A test sets what it wants otherwise: `answers` off, `refuse`, `reject`, `on_subscribe`, `on_filter`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "s")
        self.life = EPOCH
        self.window = 16
        self.max_message = 1024 * 1024
        self.max_frame = 16 * 1024 * 1024
        self.max_batch = 65_535
        self.next = 0
        self.answers = True
        self.refuse: dict[str, Refused] = {}
        self.reject: Callable[[Batch], Rejected | None] = lambda batch: None
        self.on_subscribe: Callable[[Subscribe], Frame] = self.subscribed
        self.on_filter: Callable[[SetFilter], Frame] = self.filter_set
        self.resumed = False
        self.hellos: list[Hello] = []
        self.batches: list[Batch] = []
        self.subscribes: list[Subscribe] = []
        self.publishers: list[Peer] = []
        self.sessions: list[Peer] = []
        self._receipts: dict[tuple[bytes, int], Receipt] = {}
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> FakeBroker:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        Path(self.path).unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """As if killed: the socket file stays, and no client is told."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self.until(lambda: not self._open)

    async def restart(self, *, life: Epoch = OTHER_EPOCH) -> None:
        await self.stop()
        self.life = life
        self._receipts.clear()
        await self.start()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` holds; looked at whenever something arrived or a connection ended."""
        async with self._changed:
            await self._changed.wait_for(condition)

    def subscribed(self, frame: Subscribe) -> Frame:
        positions = {"a": Position(EPOCH, self.next), **(frame.positions or {})}
        return Subscribed(positions, frame.born or self.life, self.resumed)

    def filter_set(self, frame: SetFilter) -> Frame:
        return FilterSet({"a": Position(EPOCH, self.next)})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        frames = FrameReader(64 * 1024 * 1024)
        peer: Peer | None = None
        try:
            while data := await reader.read(64 * 1024):
                for view in feed(frames, data):
                    frame = codec.decode(view)
                    if peer is None:
                        assert isinstance(frame, Hello)
                        peer = Peer(writer, frame)
                        self._greet(peer)
                        frames.limit = self.max_frame
                    elif isinstance(frame, Heartbeat) and not (peer.beats or peer.frames):
                        peer.beats = True
                    else:
                        peer.frames.append(frame)
                        self._take(peer, frame)
                await self._notify()
        except (ConnectionError, BrokenPipeError):
            pass
        except ProtocolError as error:
            assert peer is not None
            peer.send(Refused("protocol", str(error)))
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _greet(self, peer: Peer) -> None:
        self.hellos.append(peer.hello)
        refusal = self.refuse.get(peer.hello.role)
        if refusal is not None:
            peer.send(refusal)
            peer.writer.close()
            return
        if peer.hello.role == "publisher":
            self.publishers.append(peer)
        sizes = self.max_message, self.max_frame, self.window, self.max_batch
        peer.send(Welcome(1, "a", self.life, *sizes))

    def _take(self, peer: Peer, frame: Frame) -> None:
        match frame:
            case Batch():
                # A view into the receive buffer does not outlive it.
                frame.payloads = bytes(frame.payloads)
                self.batches.append(frame)
                if self.answers:
                    self.answer(peer, frame)
            case Subscribe():
                self.subscribes.append(frame)
                self.sessions.append(peer)
                self._say(peer, self.on_subscribe(frame))
            case SetFilter():
                self._say(peer, self.on_filter(frame))
            case Query(what=what):
                peer.send(Report(f'{{"asked": "{what}"}}'))
            case _:
                pass

    def _say(self, peer: Peer, answer: Frame) -> None:
        peer.send(answer)
        if isinstance(answer, Refused):
            peer.writer.close()

    def answer(self, peer: Peer, batch: Batch) -> None:
        rejected = self.reject(batch)
        if rejected is not None:
            peer.send(rejected)
        else:
            peer.send(self.accept(peer, batch))

    def accept(self, peer: Peer, batch: Batch) -> Receipt:
        """Puts the batch into the stream, once."""
        key = (peer.hello.sender_id, batch.sequence)
        if key not in self._receipts:
            self._receipts[key] = Receipt(batch.sequence, self.life, self.next)
            self.next += batch.count
        return self._receipts[key]


@contextlib.asynccontextmanager
async def subscribed_in(
    folder: Path, *patterns: str, **options: Any
) -> AsyncIterator[tuple[FakeBroker, pubsubd.Subscription]]:
    """A broker with its socket in `folder`, and a subscription to `t`, or the patterns, there."""
    async with (
        FakeBroker(folder) as broker,
        pubsubd.connect(broker.path) as client,
        client.subscribe(*patterns or ("t",), **options) as subscription,
    ):
        yield broker, subscription
