"""A publisher's or a reader's process: `python -m bench.worker publisher|reader CONTESTANT WORKLOAD`.

Takes commands from its standard input, one JSON object a line, and answers each in the same way:

    publisher   open {at}   publish {count}   pace {count}                  -> {"weight", "seconds"}
    reader      open {at, pattern, sessions, earliest}   expect {count}     -> {}
                window {stall_s}                                            -> what the application has seen
                arrivals                                                    -> {"arrivals"}: [made, came] of each
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from itertools import islice
from typing import Any, Protocol

import uvloop

from bench import contestants, workloads
from bench.application import Application, stamp
from bench.clients import roles
from bench.contestants import Contestant
from bench.feed import Feed
from bench.workloads import LATENCY_RATE, Workload

Answer = dict[str, Any]


class Role(Protocol):
    async def obey(self, do: str, arguments: dict[str, Any]) -> Answer: ...


class Publishing:
    """The publisher's side of a round."""

    def __init__(self, contestant: Contestant, workload: Workload) -> None:
        self._make = importlib.import_module(f"bench.clients.{contestant.client}").Publisher
        self._mode = contestant.mode
        self._workload = workload
        self._feed = Feed(workload)
        self._publisher: roles.Publisher

    async def obey(self, do: str, arguments: dict[str, Any]) -> Answer:
        match do:
            case "open":
                self._publisher = self._make(arguments["at"], self._workload, self._mode)
                await self._publisher.open()
                return {}
            case "publish":
                return await self._publish(arguments["count"])
            case "pace":
                return await self._pace(arguments["count"])
        raise ValueError(f"a publisher does not {do}")

    async def _publish(self, count: int) -> Answer:
        messages = self._feed.take(count)
        began = time.monotonic()
        if self._workload.waiting:
            async with asyncio.TaskGroup() as group:
                # All publishers take from one row, so that each ends at the same time.
                for _ in range(self._workload.waiting):
                    group.create_task(self._one_by_one(messages))
        else:
            await self._publisher.stream(messages)
        seconds = time.monotonic() - began
        return {"weight": self._feed.weight(count), "seconds": seconds}

    async def _one_by_one(self, messages: roles.Messages) -> None:
        for topic, value in messages:
            await self._publisher.one(topic, value)

    async def _pace(self, count: int) -> Answer:
        size = self._workload.payload_bytes
        ((topic, _),) = islice(self._feed.take(1), 1)
        began = time.monotonic()
        for i in range(count):
            ahead_s = began + i / LATENCY_RATE - time.monotonic()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            await self._publisher.soon(topic, stamp(size))
        return {"weight": count * size, "seconds": time.monotonic() - began}


class Reading:
    """The reader's side of a round."""

    def __init__(self, contestant: Contestant, workload: Workload) -> None:
        module = importlib.import_module(f"bench.clients.{contestant.client}")
        self._make = getattr(module, contestant.reader)
        self._workload = workload
        self._application = Application(workload)
        self._task: asyncio.Task[None]

    async def obey(self, do: str, arguments: dict[str, Any]) -> Answer:
        match do:
            case "open":
                reader: roles.Reader = self._make(arguments.pop("at"), self._workload)
                await reader.open(**arguments)
                self._task = asyncio.create_task(reader.read(self._application.take))
                return {}
            case "expect":
                self._application.expect(arguments["count"])
                return {}
            case "window":
                return await self._window(arguments["stall_s"])
            case "arrivals":
                return {"arrivals": self._application.arrivals_ns()}
        raise ValueError(f"a reader does not {do}")

    async def _window(self, stall_s: float) -> Answer:
        window = asyncio.create_task(self._application.window(stall_s))
        await asyncio.wait([window, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            # A reader reads until it is cancelled: this one was stopped by an error.
            window.cancel()
            await self._task
        return await window


async def serve(role: Role) -> None:
    """Serve until standard input ends."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command: dict[str, Any] = json.loads(line)
        try:
            answer = await role.obey(command.pop("do"), command)
        except Exception as error:
            answer = {"error": reason(error)}
        print(json.dumps(answer), flush=True)


def reason(error: BaseException) -> str:
    """A one-line reason; for a group of errors, the first one's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def main(role: str, contestant: str, workload: str) -> None:
    who, what = contestants.BY_NAME[contestant], workloads.BY_NAME[workload]
    await serve(Publishing(who, what) if role == "publisher" else Reading(who, what))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
