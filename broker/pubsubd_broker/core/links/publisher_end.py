"""The broker's end of a publisher's connection: batches in, one answer each, in order."""

from __future__ import annotations

from collections import deque
from typing import Final

from pubsubd_broker.core.access.permissions import Rights
from pubsubd_broker.core.limits import PUBLISH_WINDOW, SECOND_NS, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.end import ALIVE
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.streams.intake import Intake
from pubsubd_broker.core.streams.publishers import Outcome, Promise, PublishAnswer
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Frame, Heartbeat, Rejected


class PublisherEnd:
    """Answers wait for the disk where the journal asks for that; then the answers behind them wait, too."""

    role: Final = "publisher"
    has_last_words: Final = False
    settled: Final = True

    def __init__(
        self,
        connection: Connection,
        publisher_id: bytes,
        spoke_to: bytes | None,
        rights: Rights,
        *,
        intake: Intake,
        max_frame: int,
        events: Events,
    ) -> None:
        """`spoke_to`: the epoch of the broker's life that answered this publisher last, if any."""
        self.longest_frame = max_frame
        self._connection = connection
        self._id = publisher_id
        self._rights = rights
        self._intake = intake
        self._events = events
        self._publisher = intake.connect(publisher_id, spoke_to, connection.remote.origin)
        self._publisher.take_over(connection.opened_ns, connection.refuse)
        self.sequence = -1
        """The sequence of the last batch that this connection has brought: each is higher than the one before."""
        self.beats = False
        # When the batches came whose answers have not been written yet.
        self._unanswered_ns: list[int] = []
        # When the batch came that waits to be placed.
        self._held_ns: int | None = None
        # Answers in the order of their batches, from the first on that is not known yet; and when those came.
        self._answers: deque[tuple[PublishAnswer, int]] = deque()

    def received(self, frame: Frame, now: Now) -> bool:
        if isinstance(frame, Heartbeat):
            self.beats = True
            return True
        if not isinstance(frame, Batch):
            raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a publisher")
        if frame.sequence <= self.sequence:
            raise ProtocolError(
                "sequence",
                f"batch {frame.sequence} came behind batch {self.sequence} on one connection",
            )
        intake = self._intake
        if intake.closed is not None:
            if intake.draining and self._answers and intake.waits_for_disk:
                # The refusal says that nothing unanswered was accepted: the batches before it are answered first.
                if self._held_ns is None:
                    self._held_ns = now.mono_ns
                intake.hold(self._connection)
                return False
            self._connection.refuse(*intake.closed)
            return True
        came_ns = self._held_ns if self._held_ns is not None else now.mono_ns
        answer = None
        if len(self._answers) < PUBLISH_WINDOW:
            answer = intake.publish(
                frame, self._publisher, self._id, self._rights, now, self._connection
            )
        else:
            # Behind one that waits for the disk stand as many as it may leave unanswered.
            intake.hold(self._connection)
        if answer is None:
            self._held_ns = came_ns
            return False
        # Not before: one that is held comes again.
        self.sequence = frame.sequence
        self._held_ns = None
        if not self._answers and not isinstance(answer, Promise):
            self._send(answer, came_ns)
            return True
        self._answers.append((answer, came_ns))
        if isinstance(answer, Promise):
            answer.wake.append(self._settle)
        self._settle()
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        seconds = self._events.counters.publish_seconds
        for came_ns in self._unanswered_ns:
            seconds.observe((now.mono_ns - came_ns) / SECOND_NS)
        self._unanswered_ns.clear()
        return False

    def heartbeat(self) -> Heartbeat | None:
        return ALIVE

    def tick(self, now: Now) -> None:
        """Waits for no time."""

    def farewell(self, now: Now) -> None:
        """Says nothing more."""

    def lost(self, now: Now) -> None:
        self._answers.clear()
        self._publisher.let_go(self._connection.refuse)
        self._intake.disconnect(self._id, self._connection)

    def _settle(self) -> None:
        """Sends the answers that are known, in order."""
        while self._answers:
            answer, came_ns = self._answers[0]
            outcome = answer.outcome if isinstance(answer, Promise) else answer
            if outcome is None:
                return
            self._answers.popleft()
            self._send(outcome, came_ns)

    def _send(self, outcome: Outcome, came_ns: int) -> None:
        connection = self._connection
        if isinstance(outcome, Rejected):
            self._events.rejected(connection.label, connection.remote.origin, outcome)
        connection.send(outcome)
        self._unanswered_ns.append(came_ns)
