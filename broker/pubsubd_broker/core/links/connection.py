"""Connection: bytes in, bytes out. A handshake finds out what it is for; then an end knows what its frames mean.

The methods are the contract with the shell and with the end, in four groups:

    receiving    `space`, `received`, `finished`, `wants_more`, `retry`, `go_on`
    sending      `pull`, `send`, `send_all`, `wake`
    ending       `refuse`, `violated`, `close`, `failed`, `lost`
    time         `tick`
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from pubsubd_broker.core.access.quota import Claimant
from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.limits import FRAMES_AT_ONCE, HANDSHAKE_BYTES, MAX_OUTBOX_BYTES, Now
from pubsubd_broker.core.links.end import Handshake, LinkEnd, Side
from pubsubd_broker.core.links.liveness import Timeouts, is_silent
from pubsubd_broker.core.links.receive_share import ReceiveShare
from pubsubd_broker.core.links.send_budget import LARGE_BYTES, SendBudget
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.observe.events import Events
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError
from pubsubd_protocol.frames import Attach, Frame, Query, Refused, SetFilter, Subscribe
from pubsubd_protocol.framing import BUFFER_BYTES, FrameReader

_COSTLY: Final = (Attach, Query, SetFilter, Subscribe)
"""Frames that are small and may be much work."""


class Connection:
    """`space()` → write there → `received(n)`; `pull()` for the bytes to send. Ends once `closing` is set."""

    __slots__ = (
        *("_declined", "_events", "_finished", "_forget", "_gone", "_handshake", "_heard_ns"),
        *("_keeps_large", "_outbox", "_outbox_bytes", "_send_budget", "_sent_ns"),
        *("_share", "_side", "_timeouts", "_turn", "behind", "claimant", "closing"),
        *("end", "opened_ns", "reader", "remote", "space", "wake", "wants_more", "writable"),
    )

    def __init__(
        self,
        remote: Remote,
        claimant: Claimant,
        now: Now,
        *,
        side: Side,
        forget: Callable[[Connection], None],
        handshake: Callable[[Connection], Handshake],
        queue: Callable[[Connection], None],
        events: Events,
        send_budget: SendBudget[Connection],
        share: ReceiveShare | None,
        timeouts: Timeouts,
    ) -> None:
        """`forget`: is called once, when the connection is gone. `queue`: is called when there may be something to send. `share`: None if large frames are not counted."""
        self.remote = remote
        self.claimant = claimant
        """The account on which it takes of shared quotas."""
        self.end: LinkEnd | None = None
        self.reader = FrameReader(HANDSHAKE_BYTES)
        self.space: Callable[[], memoryview] = self.reader.space
        """Gives the memory for the next bytes."""
        self.wake: Callable[[], None] = partial(queue, self)
        """There may be something to send."""
        self.closing = False
        """Set at its end: nothing more comes in, and the shell closes it when all that is left has been sent."""
        self.writable = True
        """Set by the shell: whether the socket takes more."""
        self.wants_more = True
        """Whether to read on. Not while the other end leaves its answers unread, behind a declined frame, or before its turn."""
        self.opened_ns = now.mono_ns
        self.behind = False
        """Whether frames that have come wait only because it is others' turn; `go_on` takes more of them."""
        self._side = side
        self._forget = forget
        self._events = events
        self._send_budget = send_budget
        self._share = share
        self._timeouts = timeouts
        self._heard_ns = now.mono_ns
        self._sent_ns = now.mono_ns
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        # Whether the other end has said its last word.
        self._finished = False
        # How many more of its frames are taken before it is others' turn.
        self._turn = FRAMES_AT_ONCE
        # The declined frame's own bytes: the buffer that it came in is written to again.
        self._declined: bytes | None = None
        # Whether it has been given large entries that its socket has not taken.
        self._keeps_large = False
        self._gone = False
        self._handshake = handshake(self)

    @property
    def label(self) -> str:
        """The name for people."""
        return self.remote.label

    @property
    def flow_key(self) -> tuple[object, bool]:
        """The flow whose turns it shares, where more connections are ready than can be served at once."""
        return self.claimant, self.end is not None and self.end.role == "session"

    # Receiving.

    def received(self, count: int, now: Now, *, at_once: bool = True) -> None:
        """`count` bytes came into `space()`. Not `at_once`: the broker is busy, and they wait for the next turn."""
        self._heard_ns = now.mono_ns
        if self.closing:
            # Bytes that still come are not kept.
            self.reader.release()
            return
        self.reader.received(count)
        if not self.wants_more:
            return
        if at_once:
            self._take_frames(now)
        else:
            self._yield()

    def finished(self) -> bool:
        """The other end has said its last word. Returns whether it is to hear something yet: then `closing` comes by itself."""
        if self.closing or self.end is None or not self.end.has_last_words:
            return False
        self._finished = True
        self.wake()
        return True

    def retry(self, now: Now) -> None:
        """Brings the declined frame again."""
        frame, self._declined = self._declined, None
        if frame is None or self.closing:
            return
        try:
            taken = self._takes(memoryview(frame), now)
        except ProtocolError as error:
            self.violated(error)
            return
        if taken and self._outbox_bytes < MAX_OUTBOX_BYTES:
            self._take_frames(now)
        self.wake()

    def go_on(self, now: Now) -> None:
        """Takes more of the frames that wait for a turn, whether or not the socket takes anything."""
        if self.behind and not self.closing:
            self._turn = FRAMES_AT_ONCE
            self._take_frames(now)

    # Sending.

    def pull(self, budget: int, now: Now) -> list[bytes]:
        """The bytes to send now, about `budget` of them. The connection wakes itself if there is more."""
        out = Outgoing(budget, self._outbox, self._outbox_bytes)
        self._outbox, self._outbox_bytes = [], 0
        if self.end is not None and not self.closing and self.end.pull(out, now):
            self.wake()
        if out.buffers:
            self._sent_ns = now.mono_ns
        if out.size > LARGE_BYTES or self._keeps_large:
            self._count_large(out)
        self._turn = FRAMES_AT_ONCE
        if self._declined is None and not self.wants_more:
            self._take_frames(now)
        if self._finished and self.wants_more and not self.closing:
            self._say_farewell(now)
        if self.closing:
            # No further pull comes: the last words go with this one.
            out.buffers += self._outbox
            self._outbox, self._outbox_bytes = [], 0
        return out.buffers

    def send(self, frame: Frame) -> None:
        encoded = encode(frame)
        self._outbox.append(encoded)
        self._outbox_bytes += len(encoded)
        self.wake()

    def send_all(self, out: Outgoing) -> None:
        self._outbox.extend(out.buffers)
        self._outbox_bytes += out.size
        self.wake()

    # Ending.

    def refuse(self, code: str, detail: str) -> None:
        """Says why, and ends the connection."""
        if not self.closing:
            self._side.failed(detail)
            self._events.refused(self.label, self.remote.origin, code, detail)
            self.send(Refused(code, detail))
            self.closing = True

    def violated(self, error: ProtocolError) -> None:
        """The other end broke the protocol: it is told, counted, logged, and cut off."""
        if not self.closing:
            self._side.failed(str(error))
            self._events.violated(self.label, self.remote.origin, error)
            self.send(Refused("protocol", str(error)[:1000]))
            self.closing = True

    def close(self) -> None:
        """Ends the connection without a word."""
        self.closing = True
        self.wake()

    def failed(self, error: Exception) -> None:
        """A bug in handling it: it ends, the broker lives."""
        self._events.failed(self.label, error)
        self.close()

    def lost(self, now: Now, chance: float) -> None:
        """The connection is gone, whichever end closed it."""
        told, self.closing = self.closing, True
        # An object that still knows of it must not keep what was on its way.
        self.reader.release()
        self._outbox.clear()
        self._declined = None
        self._hold_large()
        self._send_budget.gone(self)
        if self.end is not None:
            self.end.lost(now)
        if not self._gone:
            self._gone = True
            self._forget(self)
            self._side.ended(now, chance, greeted=self.end is not None, told=told)

    # Time.

    def tick(self, now: Now) -> None:
        """Time has passed: cuts an other end that is late or silent, and sends a heartbeat where one is due."""
        if self.closing:
            return
        deadline_ns = self._timeouts.handshake_ns
        late = now.mono_ns - self.opened_ns > deadline_ns
        if late and (self.end is None or not self.end.settled):
            missing = "greeting" if self.end is None else "request"
            self.refuse("handshake_timeout", f"no {missing} within {deadline_ns // 1_000_000} ms")
            return
        if self.end is None:
            return
        heartbeat = self.end.heartbeat()
        if heartbeat is not None:
            if self._declined is not None:
                # An end that is not read from can't be heard.
                self._heard_ns = now.mono_ns
            if self.end.beats and is_silent(self._heard_ns, now.mono_ns, self._timeouts.silence_ns):
                self._events.silent(self.label, (now.mono_ns - self._heard_ns) // 1_000_000)
                self.close()
                return
            if now.mono_ns - self._sent_ns >= self._timeouts.heartbeat_ns and not self._outbox:
                self.send(heartbeat)
        self.end.tick(now)

    # Within.

    def _take_frames(self, now: Now) -> None:
        self.wants_more, self.behind = True, False
        try:
            for frame in self.reader.frames():
                if self.closing:
                    return
                if not self._takes(frame, now) or self._outbox_bytes >= MAX_OUTBOX_BYTES:
                    self.wants_more = False
                    break
                if self._turn <= 0:
                    self._yield()
                    break
        except ProtocolError as error:
            self.violated(error)
        share = self._share
        if share is not None and (self.reader.awaited > BUFFER_BYTES or share.held):
            self._hold_large()

    def _takes(self, frame: memoryview, now: Now) -> bool:
        """Takes one frame. False if it has to wait: then its bytes are kept."""
        decoded = decode(frame)
        self._turn -= FRAMES_AT_ONCE if isinstance(decoded, _COSTLY) else 1
        if isinstance(decoded, Refused):
            self._side.refused(decoded, trusted=self._handshake.trusted)
            self.closing = True
            self.wake()
        elif self.end is None:
            self._greet(decoded)
        elif not self.end.received(decoded, now):
            self._declined = bytes(frame)
            return False
        return True

    def _greet(self, frame: Frame) -> None:
        try:
            end = self._handshake.received(frame)
        except ConnectionRefused as refusal:
            self.refuse(refusal.code, refusal.detail)
            return
        if end is not None:
            self.end = end
            self.reader.limit = end.longest_frame

    def _say_farewell(self, now: Now) -> None:
        """All that the other end said is taken in: it hears how far its session has come, and the connection ends."""
        if self.end is not None:
            self.end.farewell(now)
        self.closing = True

    def _yield(self) -> None:
        """The frames that have come besides wait for its next turn."""
        self.wants_more, self.behind = False, True
        self.wake()

    def _count_large(self, out: Outgoing) -> None:
        """Counts the large entries that it is given. It is pulled from again as soon as its socket has taken them."""
        budget = self._send_budget
        for slowest in budget.given(self, out.buffers):
            slowest.refuse(
                "too_much_unsent",
                f"large entries that their readers have not taken are more than {budget.limit} bytes, "
                "and none has kept one longer",
            )
        self._keeps_large = budget.keeps(self)
        if self._keeps_large:
            self.wake()

    def _hold_large(self) -> None:
        """Takes its share for the large frame that comes; without room for that the connection ends."""
        if self._share is None:
            return
        refusal = self._share.hold(self.reader, len(self._declined or b""))
        if refusal is not None:
            self.refuse("too_much_unfinished", refusal)
