"""The broker's end of a command's connection: answers the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pubsubd_broker.core.access.quota import Quota
from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.codec import MAX_CONTROL_BYTES
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Frame, Heartbeat, Query, Report


class ControlEnd:
    """Queries in, one answer each, at once."""

    role: Final = "control"
    has_last_words: Final = False
    settled: Final = True
    beats: Final = False
    longest_frame: Final = MAX_CONTROL_BYTES

    def __init__(
        self,
        connection: Connection,
        *,
        answer: Callable[[Query, Now], str],
        operator: bool,
        commands: Quota,
    ) -> None:
        """`answer`: gives the answer to a query as JSON text. `operator`: whether the user may change what is kept of others."""
        self._connection = connection
        self._answer = answer
        self._operator = operator
        self._commands = commands

    def received(self, frame: Frame, now: Now) -> bool:
        if not isinstance(frame, Query):
            raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a command")
        if frame.what == "drop_cursor" and not self._operator:
            self._connection.refuse(
                "not_allowed", "only the broker's own user and root may drop a cursor"
            )
            return True
        self._connection.send(Report(self._answer(frame, now)))
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        return False

    def heartbeat(self) -> Heartbeat | None:
        return None

    def tick(self, now: Now) -> None:
        """Waits for no time."""

    def farewell(self, now: Now) -> None:
        """Says nothing more."""

    def lost(self, now: Now) -> None:
        self._commands.change(self._connection.claimant, 1, 0)
