"""Acknowledgements of a named subscription: when they are due, and that they are sent together. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pubsubd.acks import Acks
from pubsubd.batch import Batch
from pubsubd.errors import CursorExpired
from pubsubd.inbox import Inbox
from pubsubd.messages import Message
from pubsubd.resume import SessionState
from pubsubd_protocol.frames import Frame, Subscribed
from pubsubd_protocol.positions import Position


class AckLink(Protocol):
    """The part of a session's link by which acknowledgements go out."""

    session: SessionState
    known: set[str]

    @property
    def stands(self) -> bool: ...

    def write(self, frames: list[Frame]) -> None: ...


class Settling:
    """Decides when messages are settled: when the application asks for more, or with `manual` by `acknowledge` only."""

    __slots__ = ("_acks", "_due", "_inbox", "_later", "_link", "_unsettled")

    def __init__(
        self,
        inbox: Inbox,
        link: AckLink,
        later: Callable[[Callable[[], None]], object],
        *,
        manual: bool,
    ) -> None:
        """`later`: has a function called soon, together with further acknowledgements."""
        self._inbox = inbox
        self._link = link
        self._later = later
        self._acks = Acks(manual=manual)
        self._due = False
        self._unsettled: int | None = None
        """The first offset of the entry in hand that was handed out and is not settled."""

    @property
    def manual(self) -> bool:
        return self._acks.manual

    def stands(self, answer: Subscribed) -> None:
        """Take the positions that the broker has on record as acknowledged, when the session opens."""
        self._acks.stands(answer.positions, resumed=answer.resumed)

    def handed(self, message: Message) -> None:
        """Note that the application has `message` now."""
        self._unsettled = message.offset
        if self._acks.manual:
            self._acks.handed(message.node, message.epoch, message.offset, message.offset)
        self.soon()

    def handed_together(self, batch: Batch) -> None:
        """Note that the application has the messages of `batch` now."""
        self._unsettled = batch.offsets[0]
        if self._acks.manual:
            self._acks.handed(batch.node, batch.epoch, batch.offsets[0], batch.offsets[-1])
        self.soon()

    def asked(self, passed: CursorExpired | None) -> None:
        """Settle the messages in hand, and the gap `passed`: the application asks for more."""
        self._unsettled = None
        if passed is not None:
            self._acks.passed(passed)

    def acknowledge(self, message: Message) -> None:
        """With `manual`: the application needs nothing up to and including `message` again. Raises `InvalidPosition`."""
        self._acks.acknowledge(message)
        self.soon()

    def resumes(self) -> dict[str, Position]:
        """The positions that a new connection presents as acknowledged."""
        return self._acks.resumes(self._inbox.kept(self._from()))

    def soon(self) -> None:
        """Tell the broker soon."""
        if not self._due:
            self._due = True
            self._later(self.now)

    def now(self) -> None:
        """Tell the broker of all newly settled positions."""
        self._due = False
        if not self._link.stands:
            return
        settled = self._inbox.done(self._from())
        acks = self._acks.due(settled, self._link.known, self._link.session.born)
        if acks:
            self._link.write([*acks])

    def _from(self) -> int | None:
        """The first offset of the entry in hand that is not settled."""
        if self._unsettled is not None and not self._acks.manual:
            return self._unsettled
        return self._inbox.unread


def pass_told(inbox: Inbox, settling: Settling | None) -> bool:
    """The application asks for more: settle all that was handed out, and pass the gap of which it was told.

    Returns whether there was such a gap.
    """
    passed = inbox.notice if inbox.told else None
    if settling is not None:
        settling.asked(passed)
    if passed is not None:
        inbox.pass_gap()
    return passed is not None
