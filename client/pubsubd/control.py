"""Questions to a broker: status, cursors. For commands and dashboards."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from pubsubd import arguments
from pubsubd.connection import BrokerConnection, BrokerDialler, unexpected
from pubsubd.unavailable import silent
from pubsubd_protocol import codec
from pubsubd_protocol.errors import ProtocolError, PubSubError
from pubsubd_protocol.frames import Frame, Query, Report

ANSWER_TIMEOUT_S = 10.0

MAX_WHAT = 64
MAX_ARGUMENT = 1000
"""Greatest length in characters of a question, and of its argument."""


class _Question:
    """Waits for one report."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def received(self, connection: BrokerConnection, frame: Frame) -> None:
        if not isinstance(frame, Report):
            raise unexpected(frame)
        if not self.answer.done():
            self.answer.set_result(frame.json)

    def lost(self, connection: BrokerConnection, why: PubSubError) -> None:
        if not self.answer.done():
            self.answer.set_exception(why)

    def writable(self, connection: BrokerConnection) -> None:
        """Do nothing: the connection writes one small frame only."""


async def query(
    socket: str | os.PathLike[str],
    what: str,
    argument: str | None = None,
    *,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> Any:
    """The broker's answer to `what` ("status", "cursors", "drop_cursor"), as decoded JSON.

    Raises `InvalidArgument`, `BrokerUnavailable`, `ProtocolError`, or `ConnectionRefused` with the broker's reason.
    """
    arguments.text("what", what, MAX_WHAT)
    if argument is not None:
        arguments.text("argument", argument, MAX_ARGUMENT)
    path = arguments.socket_path(socket, os.environ)
    timeout_s = arguments.seconds("timeout_s", timeout_s, above_zero=True)
    question = _Question()
    dialler = BrokerDialler(path, timeout_s)
    connection, _ = await dialler.dial("control", question)
    try:
        connection.write([codec.encode(Query(what, argument))])
        async with asyncio.timeout(timeout_s):
            answer = await question.answer
    except TimeoutError:
        raise silent(path, timeout_s) from None
    finally:
        question.answer.cancel()
        await connection.close()
    try:
        return json.loads(answer)
    except ValueError as error:
        raise ProtocolError("malformed", f"the broker's report is not JSON: {error}") from None
