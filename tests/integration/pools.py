"""Pools of processes that share their parent's client: `python -m tests.integration.pools HOW SOCKET LOOP`.

Each prints one JSON value: the places of all messages that its processes published, and the error that a worker
raised.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from typing import Any, Final

from tests.integration.forking import (
    CHILDREN,
    DEADLINE_S,
    Child,
    Places,
    opened_and_published,
    place,
    run,
    tell,
)

import pubsubd
from pubsubd import Client

_client: Client | None = None


def _begin(client: Client, arguments: list[str]) -> None:
    """Runs in each worker. Its arguments are inherited if the method is fork, and pickled otherwise."""
    global _client
    _client = client
    sys.argv[1:] = arguments


def _publish(_: int) -> Places:
    assert _client is not None
    places: Places = run(opened_and_published(_client))
    return places


def _fail(socket: str) -> None:
    run(_opened(pubsubd.connect(socket)))


async def _opened(client: Client) -> None:
    await client


def pool(method: str, socket: str) -> Any:
    """Workers of one task each: `multiprocessing` starts the later ones in a thread of its own."""

    async def parent() -> Any:
        # `Any`, as the contexts of `multiprocessing` share no type with all of it.
        context: Any = multiprocessing.get_context(method)
        context.set_forkserver_preload(["tests.integration.forking"])
        async with pubsubd.connect(socket) as client:
            places = [place(await client.publish("t", "before"))]
            begin = (client, sys.argv[1:])
            with context.Pool(2, _begin, begin, maxtasksperchild=1) as workers:
                tasks = workers.map_async(_publish, range(CHILDREN), chunksize=1)
                answers = tasks.get(DEADLINE_S)
                try:
                    error = workers.apply_async(_fail, ("/nowhere/s",)).get(DEADLINE_S)
                except pubsubd.BrokerUnavailable as raised:
                    error = raised.socket
            places.append(place(await client.publish("t", "after")))
        return {"places": [places, *answers], "error": error}

    return run(parent())


def thread(socket: str) -> Any:
    """Fork in a thread, while the loop of another thread publishes without a pause."""

    async def parent() -> Any:
        places: Places = []
        async with pubsubd.connect(socket) as client:
            work = lambda: run(opened_and_published(client))  # noqa: E731
            forks = lambda: [Child(work).answer() for _ in range(CHILDREN)]  # noqa: E731
            forking = asyncio.get_running_loop().run_in_executor(None, forks)
            while not forking.done():
                places.append(place(await client.publish("t", "the parent's")))
            return {"places": [places, *forking.result()]}

    return run(parent())


HOW: Final = {
    "fork": lambda socket: pool("fork", socket),
    "forkserver": lambda socket: pool("forkserver", socket),
    "thread": thread,
}

if __name__ == "__main__":
    tell(HOW[sys.argv[1]](sys.argv[2]))
