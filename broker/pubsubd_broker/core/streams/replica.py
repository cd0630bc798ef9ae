"""Replica: a consumer's copy of a peer's newest messages, in the same offsets, and its registration in that stream."""

from __future__ import annotations

from collections.abc import Mapping

from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.pacing import Pace, Pacing
from pubsubd_broker.core.streams.fetching import AskProducer, LaggingReader
from pubsubd_protocol.attach import At, Claim, Expired, Resume, Verdict, resolve, short
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import MAX_OTHER_EPOCHS
from pubsubd_protocol.frames import Attached, CursorExpired, Skip
from pubsubd_protocol.positions import MAX_OFFSET, Epoch, Position, StreamView


class Replica:
    """The replica of one peer's stream, made at first contact. Checks that each item follows on the last one; never guesses.

    `origin`: the position of a session that was open in this life of the broker before first contact. It is the cursor
    that the producer had registered for this node, else 0. `named`: the positions of named sessions of earlier lives.
    """

    __slots__ = (
        "_given_up",
        "fetcher",
        "log",
        "named",
        "node",
        "origin",
        "other_epochs",
        "pacing",
        "reader",
    )

    def __init__(
        self,
        node: str,
        reader: str,
        attached: Attached,
        answer: Verdict,
        max_messages: int,
        max_bytes: int,
        pace: Pace,
    ) -> None:
        """`answer`: the answer in `attached`, with its figures."""
        self.node = node
        self.reader = reader
        """The node that holds this replica."""
        view = attached.view
        offset = answer.offset if isinstance(answer, Resume) else answer.next
        self.log = Log(max_messages, max_bytes, view.epoch, view.lineage, offset, view.losses)
        # A slow session reads from the producer; the other sessions of this node need not wait for it.
        self.pacing = Pacing(self.log, pace, yields=True)
        self.origin = attached.registered or view.start
        self.named: Mapping[str, Position] = attached.named
        self.fetcher: AskProducer | None = None
        """Asks the producer on behalf of a session. None while the link is down."""
        self._given_up = False
        self.other_epochs: tuple[Epoch, ...] = ()
        """Newest epochs of the producer that its later history does not continue: at most `MAX_OTHER_EPOCHS`, newest first."""

    def answer(self, claim: Claim) -> tuple[StreamView, Verdict] | None:
        """None: only the producer can answer. Answers by this replica's view once the replica has been given up."""
        if not self._given_up:
            return None
        view = self.log.view
        return view, resolve(claim, view)

    def give_up(self) -> None:
        """Evicts all items for good. Sessions that have not read them are told so, and go on at the end."""
        self._given_up = True
        self.log.empty()

    def fetch(self, reader: LaggingReader, claim: Claim, budget: int) -> bool:
        """Has the producer asked on behalf of `reader`. False while the link is down."""
        return self.fetcher is not None and self.fetcher(reader, claim, budget)

    def caught_up(self, reader: LaggingReader, claim: Claim) -> None:
        """Tells the producer that `reader` needs no more from it."""
        if self.fetcher is not None:
            self.fetcher(reader, claim, 0)

    @property
    def registration(self) -> Position:
        """The position that this node presents when it attaches: the replica has got all messages before it."""
        return self.log.end_position

    @property
    def unbroken(self) -> StreamView:
        """The newest run of messages without a skipped offset. Cost: one look at each item."""
        log, newest = self.log, self.log.newest
        oldest = newest.first
        for index in range(max(newest.begin, log.begin), log.end):
            item = log[index]
            if isinstance(item, Skip):
                oldest = item.next
        return StreamView(newest.epoch, newest.lineage, oldest, newest.next, newest.losses)

    def attached(self, attached: Attached) -> None:
        """Takes the producer's answer to the registration: goes on, or appends a gap marker."""
        view, said = attached.view, attached.answer
        answer = resolve(At(self.registration), view)
        if short(answer) != said:
            raise ProtocolError(
                "attach", f"{self.node} answered {said} to {self.registration}, it is {answer}"
            )
        if isinstance(answer, Expired):
            last = self.registration.epoch
            if view.reach(last) is None:
                self.other_epochs = (last, *self.other_epochs)[:MAX_OTHER_EPOCHS]
            self.log.append_gap(view.until(answer.next))
            return
        self.log.continue_as(view)
        self.log.wake()

    def expired(self, expired: CursorExpired) -> None:
        """Appends a gap marker: the ring overtook this connected node, or the stream itself has a gap here."""
        newest = self.log.newest
        view = expired.view
        if expired.node != self.node or view.epoch != newest.epoch or view.next < newest.next:
            raise ProtocolError(
                "offset", f"{self.node} expired at {newest.next}, to go on at {view.next}"
            )
        check_replica_view(view, self.node)
        answer = resolve(At(self.registration), view)
        said = Expired(expired.reason, view.next, expired.missed)
        if answer != said:
            raise ProtocolError(
                "attach", f"{self.node} said {expired.reason}, by its own view it is {answer}"
            )
        self.log.append_gap(view)

    def append(self, item: Entry | Skip) -> None:
        """Appends an entry or a skipped range of the stream. Raises `ProtocolError` unless it comes next."""
        check_origin(item, self.node, self.reader)
        newest = self.log.newest
        if item.first != newest.next and not (self._empty and item.first < newest.next < item.next):
            raise ProtocolError(
                "offset",
                f"{self.node} sent {item.first}..{item.next}, what comes next is {newest.next}",
            )
        if (newest.epoch != item.epoch or newest.losses) and not self._goes_on(item):
            raise ProtocolError(
                "epoch", f"{self.node} sent epoch {item.epoch.hex()} at {item.first}"
            )
        self.log.append(item)

    def _goes_on(self, item: Entry | Skip) -> bool:
        """Whether the epoch of `item` can come next: in this history, and on this side of its gaps."""
        newest, view = self.log.newest, self.log.view
        if newest.epoch != item.epoch and not view.covers(item.epoch, item.next):
            return False
        return len(view.gaps(item.epoch)) == len(view.gaps(newest.last))

    def contradicts(self, entry: Entry) -> bool:
        """Whether the replica holds other bytes in the place of `entry`, on the same branch."""
        held = self.log.entry_at(Position(entry.epoch, entry.first))
        return held is not None and held.wire != entry.wire

    @property
    def _empty(self) -> bool:
        newest = self.log.newest
        return newest.first == newest.next and self.log.end == newest.begin


def check_origin(item: Entry | Skip, node: str, reader: str) -> None:
    """Raises `ProtocolError` unless `item` is whole, of `node`'s stream, and meant for `reader` too."""
    if item.node != node:
        raise ProtocolError("stream", f"{node} sent a message of {item.node}'s stream")
    if item.next > MAX_OFFSET:
        raise ProtocolError("offset", f"{node} sent {item.first}..{item.next}, beyond {MAX_OFFSET}")
    if isinstance(item, Entry):
        if item.count != item.next - item.first:
            raise ProtocolError(
                "offset", f"{node} sent {item.count} messages for {item.first}..{item.next}"
            )
        if item.to is not None and item.to != reader:
            raise ProtocolError("stream", f"{node} sent a message for {item.to}")


def check_replica_view(view: StreamView, node: str) -> None:
    """Raises `ProtocolError` if `view` goes beyond the last offset: no position could be stored there."""
    if view.next > MAX_OFFSET:
        raise ProtocolError("offset", f"{node} says that it is at {view.next}, beyond {MAX_OFFSET}")
