"""A connection as the core sees it: bytes in, bytes out, and an end that knows what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pubsubd_broker.core.access.admission import Admittance, TurnedAway
from pubsubd_broker.core.access.permissions import EVERYTHING
from pubsubd_broker.core.access.remote import Caller
from pubsubd_broker.core.limits import FRAMES_AT_ONCE, HANDSHAKE_BYTES, MAX_OUTBOX_BYTES, Now
from pubsubd_broker.core.links.end import End
from pubsubd_broker.core.links.handshake import AcceptedGreeting, DialledGreeting, Greeting
from pubsubd_broker.core.links.liveness import is_silent
from pubsubd_broker.core.links.send_budget import LARGE_BYTES
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError
from pubsubd_protocol.frames import (
    Attach,
    Frame,
    Query,
    Refused,
    SetFilter,
    Subscribe,
)
from pubsubd_protocol.framing import BUFFER_BYTES, FrameReader

if TYPE_CHECKING:
    from pubsubd_broker.core.links.dial_targets import Target
    from pubsubd_broker.core.node import Node


_COSTLY: Final = (Attach, Query, SetFilter, Subscribe)
"""Frames that are small and may be much work."""


class Connection:
    """`space()` → write there → `received(n)`; `pull()` for what to send. Ends once `closing` is set.

    `peers`: whether it came in where peers are served (else where clients are), or was dialled (`target`).
    """

    def __init__(
        self,
        node: Node,
        caller: Caller,
        now: Now,
        *,
        peers: bool,
        target: Target | None = None,
        admittance: Admittance | None = None,
    ) -> None:
        self._node = node
        self.caller = caller
        self.peers = peers
        self.target = target
        self.admittance = admittance
        """How it came in; None for one that was dialled."""
        self.claimant = node.config.claimant(caller)
        """On whose account it takes what all have to share."""
        self.rights = EVERYTHING
        """What its user may do; known when it has greeted."""
        self.end: End | None = None
        self.reader = FrameReader(HANDSHAKE_BYTES)
        self.closing = False
        """Nothing more comes in; what is still to be sent is sent, then it ends."""
        self.writable = True
        """Set by the shell: whether the socket takes more."""
        self.opened_ns = now.mono_ns
        self._heard_ns = now.mono_ns
        self._sent_ns = now.mono_ns
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._finished = False
        """Whether the other end has said its last word."""
        self._stalled = False
        """Whether frames that have come wait: for the other end to take its answers, or behind a declined one."""
        self.behind = False
        """Whether they wait only because it is others' turn; `go_on` takes more of them."""
        self._turn = FRAMES_AT_ONCE
        """How many more of its frames are taken before it is others' turn."""
        # The declined frame's own bytes: the buffer that it came in is written to again.
        self._declined: bytes | None = None
        # What of its large frames counts for all connections together.
        self._large_bytes = 0
        self._keeps_large = False
        turned_away = admittance if isinstance(admittance, TurnedAway) else None
        self._greeting: Greeting = (
            DialledGreeting(node, self, target)
            if target is not None
            else AcceptedGreeting(node, self, turned_away)
        )

    @property
    def label(self) -> str:
        """Where it comes from, or leads to: for people."""
        return self.caller.label

    @property
    def trusted(self) -> bool:
        """Whether the other end has shown who it is, as far as it has to."""
        return self._greeting.trusted

    @property
    def why_lost(self) -> str:
        """What can be said when it is gone without a word."""
        if self.end is not None:
            return "the connection was lost"
        if self.caller.channel is not None:
            # TLS 1.3 is done at this end before the other one has looked at our certificate.
            return (
                "it closed the connection after the TLS handshake: it may not accept this node's certificate, its log "
                "says why"
            )
        return (
            "it closed the connection before it had greeted: it may ask for TLS, or be no broker at all, its log "
            "says why"
        )

    @property
    def lane(self) -> tuple[object, bool]:
        """With whom it shares its turns, where there are more than can be served at once."""
        return self.claimant, self.end is not None and self.end.role == "session"

    def space(self) -> memoryview:
        return self.reader.space()

    def received(self, count: int, now: Now, *, at_once: bool = True) -> None:
        """`count` bytes came into `space()`. Not `at_once`: so much is to do that they wait for its turn."""
        self._heard_ns = now.mono_ns
        if self.closing:
            # What still comes is not kept.
            self.reader.release()
            return
        self.reader.received(count)
        if self._stalled:
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

    @property
    def wants_more(self) -> bool:
        """Whether to read on: not while the other end leaves its answers unread, or what it sent has to wait."""
        return not self._stalled

    def retry(self, now: Now) -> None:
        """Brings what was declined."""
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
        """It is its turn again, whether or not its socket takes anything."""
        if self.behind and not self.closing:
            self._turn = FRAMES_AT_ONCE
            self._take_frames(now)

    def pull(self, budget: int, now: Now) -> list[bytes]:
        """What to send now, about `budget` bytes of it; wakes itself if there is more."""
        out = Outgoing(budget)
        out.buffers, self._outbox = self._outbox, out.buffers
        out.size, self._outbox_bytes = self._outbox_bytes, 0
        if self.end is not None and not self.closing and self.end.pull(out, now):
            self.wake()
        if out.buffers:
            self._sent_ns = now.mono_ns
        if out.size > LARGE_BYTES or self._keeps_large:
            self._keep_large(out)
        self._turn = FRAMES_AT_ONCE
        if self._stalled and self._declined is None:
            self._take_frames(now)
        if self._finished and not (self._stalled or self.closing):
            self._say_farewell(now)
        if self.closing:
            # There is no further pull: the last words go with this one.
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

    def wake(self) -> None:
        """There may be something to send."""
        self._node.turns.wake(self)

    def refuse(self, code: str, detail: str) -> None:
        """Says why, and ends the connection."""
        if not self.closing:
            self._failed_there(detail)
            self._node.reports.refused(self.label, self.caller.origin, code, detail)
            self.send(Refused(code, detail))
            self.closing = True

    def violated(self, error: ProtocolError) -> None:
        """The other end broke the protocol: it is told, counted, logged, and cut off."""
        if not self.closing:
            self._failed_there(str(error))
            self._node.reports.violated(self.label, self.caller.origin, error)
            self.send(Refused("protocol", str(error)[:1000]))
            self.closing = True

    def close(self) -> None:
        """Ends the connection without a word."""
        self.closing = True
        self.wake()

    def tick(self, now: Now) -> None:
        """Time has passed: cut who is late, say that one lives."""
        if self.closing:
            return
        deadline_ns = self._node.config.limits.handshake_ns
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
                # Whoever is not read from can't be heard.
                self._heard_ns = now.mono_ns
            if self.end.beats and is_silent(self._heard_ns, now.mono_ns, self._timeout_ns):
                silent_ms = (now.mono_ns - self._heard_ns) // 1_000_000
                self._node.reports.silent(self.label, silent_ms)
                self.close()
                return
            due_ns = self._node.config.heartbeat_ns
            if now.mono_ns - self._sent_ns >= due_ns and not self._outbox:
                self.send(heartbeat)
        self.end.tick(now)

    def lost(self, now: Now, chance: float) -> None:
        """The connection is gone, whoever ended it."""
        if self.end is None and not self.closing:
            self._failed_there(self.why_lost)
        self.closing = True
        # Whoever still knows of it must not keep what was on its way.
        self.reader.release()
        self._outbox.clear()
        self._declined = None
        self._hold_large()
        self._node.unsent.gone(self)
        if self.end is not None:
            self.end.lost(now)
        self._node.connection_lost(self, now, chance)

    def failed(self, error: Exception) -> None:
        """A bug in handling it: it ends, the broker lives."""
        self._node.reports.failed(self.label, error)
        self.close()

    def _failed_there(self, error: str) -> None:
        """If this node has dialled: why it has no link to that address."""
        if self.target is not None and self.target.fails(error):
            self._node.reports.unreachable(self.target.label, error)

    @property
    def _timeout_ns(self) -> int:
        """How long the other end may be silent."""
        config = self._node.config
        of_a_peer = self.peers or self.target is not None
        return config.peer_timeout_ns if of_a_peer else config.client_timeout_ns

    def _take_frames(self, now: Now) -> None:
        self._stalled = self.behind = False
        try:
            for frame in self.reader.frames():
                if self.closing:
                    return
                if not self._takes(frame, now) or self._outbox_bytes >= MAX_OUTBOX_BYTES:
                    self._stalled = True
                    break
                if self._turn <= 0:
                    self._yield()
                    break
        except ProtocolError as error:
            self.violated(error)
        if self.reader.awaited > BUFFER_BYTES or self._large_bytes:
            self._hold_large()

    def _say_farewell(self, now: Now) -> None:
        """All that it said is taken in: it hears how far its session has come, and the connection ends."""
        if self.end is not None:
            self.end.farewell(now)
        self.closing = True

    def _yield(self) -> None:
        """What it has said besides waits for its next turn."""
        self._stalled = self.behind = True
        self.wake()

    def _keep_large(self, out: Outgoing) -> None:
        """Says what large entries it is given. To be asked again as soon as its socket has taken them."""
        unsent = self._node.unsent
        for slowest in unsent.given(self, out.buffers):
            slowest.refuse(
                "too_much_unsent",
                f"large entries that their readers have not taken are more than {unsent.limit} bytes, "
                "and none has kept one longer",
            )
        self._keeps_large = unsent.keeps(self)
        if self._keeps_large:
            self.wake()

    def _hold_large(self) -> None:
        """Asks for what it is going to hold of a large frame; without room for it, it ends."""
        # The producers that this node has dialled are as few as its settings name.
        if self.target is not None:
            return
        self.reader.shrink()
        declined = len(self._declined) if self._declined is not None else 0
        wanted = max(0, self.reader.size - BUFFER_BYTES) + max(0, declined - BUFFER_BYTES)
        receiving = self._node.receiving
        if not receiving.change(self.claimant, self._large_bytes, wanted):
            self.refuse(
                "too_much_unfinished",
                f"no room for a frame of {self.reader.awaited} bytes: of the bytes for large frames that have not come "
                f"to their end {receiving.taken(self.claimant)}",
            )
            self.reader.release()
            wanted = 0
            receiving.change(self.claimant, self._large_bytes, wanted)
        self._large_bytes = wanted

    def _takes(self, frame: memoryview, now: Now) -> bool:
        decoded = decode(frame)
        self._turn -= FRAMES_AT_ONCE if isinstance(decoded, _COSTLY) else 1
        if self._frame(decoded, now):
            return True
        self._declined = bytes(frame)
        return False

    def _frame(self, frame: Frame, now: Now) -> bool:
        if isinstance(frame, Refused):
            self._node.refused_by(self, frame)
            self.closing = True
            self.wake()
        elif self.end is not None:
            return self.end.received(frame, now)
        else:
            self._greet(frame)
        return True

    def _greet(self, frame: Frame) -> None:
        try:
            end = self._greeting.received(frame)
        except ConnectionRefused as refusal:
            self.refuse(refusal.code, refusal.detail)
            return
        if end is not None:
            self.end = end
            self.reader.limit = end.longest_frame
