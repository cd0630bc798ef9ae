"""The way of a message from the application into the outbox. It never waits, so it can be compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident as this_thread
from typing import Any

from pubsubd import arguments
from pubsubd.batching import OutgoingBatch
from pubsubd.codecs import Codec
from pubsubd.encoding import encoded
from pubsubd.errors import ClientClosed, PublishRejected
from pubsubd.failures import Failures
from pubsubd.fork_mark import mark
from pubsubd.outbox import Outbox
from pubsubd_protocol.positions import is_node_name
from pubsubd_protocol.topics import check_publishable


class Accumulator:
    """Takes messages in turns of the event loop: all that one turn brings goes out at its end.

    While turns bring one message each and nothing is in flight, that message is written at once: no other would share
    its batch. Belongs to the thread that makes it.
    """

    __slots__ = (
        "_alone",
        "_check_home",
        "_end_turn_soon",
        "_first",
        "_mark",
        "_opened",
        "_outbox",
        "_takes_in",
        "_this_thread",
        "_turn_ends",
        "_write",
        "failures",
    )

    def __init__(
        self,
        outbox: Outbox,
        check_home: Callable[[], None],
        end_turn_soon: Callable[[], object],
        write: Callable[[], None],
    ) -> None:
        """`end_turn_soon` has `end_turn` called at the end of this turn of the event loop."""
        self.failures = Failures()
        self._outbox = outbox
        self._check_home = check_home
        self._end_turn_soon = end_turn_soon
        self._write = write
        # Compiled code reads an attribute of its own sooner than a name of its module.
        self._this_thread = this_thread
        self._mark = mark
        self._takes_in = this_thread()
        """The thread in which messages are taken; 0 once no more are."""
        self._turn_ends = False
        """Whether `end_turn` is to come: this turn has brought a message."""
        self._first: OutgoingBatch | None = None
        """The batch of this turn's first message, if that came alone."""
        self._opened = 0
        """The number of batches that were opened up to that message."""
        self._alone = False
        """Whether the last turn that brought messages brought only one."""

    @property
    def ended(self) -> bool:
        """Whether no more messages are taken."""
        return self._takes_in == 0

    def end(self) -> None:
        """Take no more messages: those that come get `ClientClosed`."""
        self._takes_in = 0

    def ready(self) -> bool:
        """Whether a message may be sent at once: in this thread and process, with room, and without a failure to raise."""
        return (
            self._takes_in == self._this_thread()
            and self._mark[0] == 1
            and not self._outbox.full
            and self.failures.first is None
        )

    def put(self, topic: Any, payload: bytes, to: Any, timeout_s: float) -> OutgoingBatch:
        """Take one message. It goes out at the end of this turn of the event loop at the latest, or at once."""
        if to is not None or self._takes_in == 0:
            self._check(to)
        begins = not self._turn_ends
        # Checked once a turn, before the first message is taken.
        if begins:
            self._check_home()
        try:
            outgoing = self._outbox.put(topic, payload, to, timeout_s)
        except TypeError:
            check_publishable(topic)  # The topic is not hashable; this raises a better error.
            raise
        if begins:
            self._first, self._opened = outgoing, self._outbox.opened
            self._begin_turn()
            if self._alone and self._outbox.lone:
                self._write()
        return outgoing

    def send(self, codec: Codec, topic: Any, payload: Any, to: Any, timeout_s: float) -> bool:
        """Encode and take one message. Returns whether a batch is full by it, and should be written."""
        raw = encoded(codec, topic, payload)
        sealed = self._outbox.sealed
        self.put(topic, raw, to, timeout_s)
        return self._outbox.sealed != sealed

    def put_many(
        self, topic: Any, payloads: Sequence[bytes], to: Any, timeout_s: float
    ) -> list[tuple[OutgoingBatch, int, int]]:
        """Take several messages. Returns runs of them: the batch, the first message's number in it, the count."""
        self._check(to)
        check_publishable(topic)
        if not self._turn_ends:
            self._first = None
            self._begin_turn()
        return self._outbox.put_many(topic, payloads, to, timeout_s)

    def end_turn(self) -> None:
        """Write what this turn has brought, as far as the window and the socket take it."""
        self._turn_ends = False
        first, self._first = self._first, None
        # A second message would be in the same batch, or have opened another one.
        self._alone = first is not None and first.count == 1 and self._outbox.opened == self._opened
        self._write()

    def _begin_turn(self) -> None:
        self._turn_ends = True
        self._end_turn_soon()

    def _check(self, to: Any) -> None:
        if self._takes_in == 0:
            raise ClientClosed("this client is closed")
        check_target(to)


def check_target(to: Any) -> None:
    """Raises `InvalidArgument` or `PublishRejected` if `to` is neither None nor the name of a node."""
    if to is not None and not is_node_name(arguments.text("to", to)):
        raise PublishRejected("unknown_node", f"{to!r} is not a valid node name")
