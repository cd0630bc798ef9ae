"""Acknowledgements of a named subscription: the broker is told once a loop turn."""

from __future__ import annotations

import asyncio

from pubsubd.acks import Acks
from pubsubd.errors import CursorExpired
from pubsubd.inbox import Inbox
from pubsubd.messages import Message
from pubsubd.session_link import SessionLink
from pubsubd_protocol.frames import Subscribed
from pubsubd_protocol.positions import Position


class Settling:
    """Holds the messages that were handed out last. Asking for more settles them; with `manual` only `acknowledge` does."""

    __slots__ = ("_acks", "_due", "_inbox", "_link", "_unsettled")

    def __init__(self, inbox: Inbox, link: SessionLink, *, manual: bool) -> None:
        self._inbox = inbox
        self._link = link
        self._acks = Acks(manual=manual)
        self._due = False
        self._unsettled: Message | None = None
        """The first of the messages that were handed out and that no later question has settled."""

    @property
    def manual(self) -> bool:
        return self._acks.manual

    def stands(self, answer: Subscribed) -> None:
        """The session is open; the broker names the positions that it holds to be acknowledged."""
        self._acks.stands(answer.positions, resumed=answer.resumed)

    def handed(self, message: Message) -> None:
        """The application has `message` now."""
        self._unsettled = message
        if self._acks.manual:
            self._acks.handed(message)
        self.soon()

    def handed_together(self, batch: list[Message]) -> None:
        """The application has the messages of `batch` now."""
        self._unsettled = batch[0]
        if self._acks.manual:
            for message in batch:
                self._acks.handed(message)
        self.soon()

    def asked(self, passed: CursorExpired | None) -> None:
        """The application asks for more: it is done with the messages in hand, and with the gap that it has `passed`."""
        self._unsettled = None
        if passed is not None:
            self._acks.passed(passed)

    def acknowledge(self, message: Message) -> None:
        """With `manual`: nothing up to and with `message` is needed again. Raises `InvalidPosition`."""
        self._acks.acknowledge(message)
        self.soon()

    def resumes(self) -> dict[str, Position]:
        """The positions that a new connection presents as done with."""
        return self._acks.resumes(self._inbox.kept(self._from()))

    def soon(self) -> None:
        """Tells the broker when the loop turn is over."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.now)

    def now(self) -> None:
        """Tells the broker of all that is newly settled."""
        self._due = False
        if not self._link.stands:
            return
        settled = self._inbox.done(self._from())
        acks = self._acks.due(settled, self._link.known, self._link.session.life)
        if acks:
            self._link.write([*acks])

    def _from(self) -> int | None:
        """The first offset of the entry in hand with which the application is not done."""
        if self._unsettled is not None and not self._acks.manual:
            return self._unsettled.offset
        return self._inbox.messages[-1].offset if self._inbox.messages else None
