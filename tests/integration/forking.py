"""Programs that are forked while they have a client: `python -m tests.integration.forking WHAT SOCKET LOOP`.

Each prints one JSON value: what its processes saw. `LOOP` is the event loop of all of them.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import uvloop

import pubsubd
from pubsubd import Client, PubSubError, Receipt, Subscription

CHILDREN: Final = 3
EACH: Final = 5
DEADLINE_S: Final = 60.0

Places = list[tuple[str, int]]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run the work in a loop of its own, of the chosen kind."""

    async def bounded() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    factory = uvloop.new_event_loop if sys.argv[3] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(bounded())


def tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def place(receipt: Receipt) -> tuple[str, int]:
    return receipt.epoch, receipt.offset


async def opened_and_published(client: Client) -> Places:
    async with client:
        name = f"{os.getpid()}"
        return [place(await client.publish("t", f"{name}/{n}")) for n in range(EACH)]


class Child:
    """A forked process that sends back what `work` returns.

    It ends like any interpreter, with three exceptions: it is forked inside a running event loop, or in a thread, or
    Python is not told of the fork. Then it ends by `os._exit`, as the children of multiprocessing do: to leave
    through the parent's loop would run that loop.
    """

    def __init__(self, work: Callable[[], Any], *, fork: Callable[[], int] = os.fork) -> None:
        running = asyncio._get_running_loop() is not None
        alone = threading.current_thread() is threading.main_thread()
        at_once = fork is not os.fork or running or not alone
        reads, writes = os.pipe()
        self._pipe = reads
        self.pid = fork()
        if self.pid == 0:
            os.close(reads)
            status = 1
            try:
                with os.fdopen(writes, "w") as answer:
                    json.dump(work(), answer)
                status = 0
            except BaseException:
                traceback.print_exc()
            if at_once:
                os._exit(status)
            sys.exit(status)
        os.close(writes)

    def answer(self) -> Any:
        with os.fdopen(self._pipe) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        assert status == 0, f"the child ended with {status}"
        return json.loads(answer)


def at_once(socket: str) -> Any:
    client = pubsubd.connect(socket)
    children = [Child(lambda: run(opened_and_published(client))) for _ in range(CHILDREN)]
    return [child.answer() for child in children]


def one_after_another(socket: str) -> Any:
    client = pubsubd.connect(socket)
    return [Child(lambda: run(opened_and_published(client))).answer() for _ in range(CHILDREN)]


def forked_by_c(socket: str) -> Any:
    """Fork without telling Python."""
    client = pubsubd.connect(socket)
    libc = ctypes.PyDLL(None)
    mine = run(_first(client))
    work = lambda: run(opened_and_published(client))  # noqa: E731
    return [mine, *(Child(work, fork=libc.fork).answer() for _ in range(CHILDREN))]


def used_after_a_fork_by_c(socket: str) -> Any:
    """The same, in a child that at once uses its parent's open client: in the middle of a loop turn, with a message
    in hand.
    """
    told: list[str] = []
    client = pubsubd.connect(socket, on_lost=lambda why: told.append(f"lost: {why}"))

    async def child(subscription: Subscription) -> Any:
        refused = [await _refusal(use) for use in _ways_to_read(subscription)]
        # Full batches are written at once, over the child's own connection.
        for _ in range(EACH):
            await client.send("t", "the child's" + " " * 100_000)
        await client.flush()
        await client.publish_many("t", ["the child's"] * EACH)
        await client.close()
        await subscription.close()
        return refused

    async def parent() -> Any:
        fork = ctypes.PyDLL(None).fork
        async with client, client.subscribe("t") as subscription:
            await client.publish_many("t", ["first", "second"])
            seen = [(await anext(subscription)).payload]
            await client.send("t", "sent")
            refused = Child(lambda: run(child(subscription)), fork=fork).answer()
            Child(lambda: run(client.close()), fork=fork).answer()
            Child(lambda: run(subscription.close()), fork=fork).answer()
            await client.send("t", "after")
            await client.flush()
            while seen[-1] != "after":
                seen.append((await anext(subscription)).payload)
            return {"seen": [each.strip() for each in seen], "refused": refused, "told": told}

    return run(parent())


async def _first(client: Client) -> Places:
    # Leave it open: the children inherit it so.
    await client
    return [place(await client.publish("t", "first"))]


async def _refusal(use: Callable[[], Awaitable[object]]) -> str:
    try:
        await use()
    except PubSubError as error:
        return type(error).__name__
    return "no error"


def _ways_to_read(subscription: Subscription) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: anext(subscription),
        lambda: anext(subscription.events()),
        lambda: anext(subscription.events(status=True)),
        lambda: anext(subscription.batches()),
        lambda: subscription.add("u"),
    ]


async def _uses(client: Client, subscription: Subscription) -> dict[str, Any]:
    """The rights of a child over its parent's open client and subscription: the client connects anew, a subscription
    must be opened again.
    """
    refused = [await _refusal(use) for use in _ways_to_read(subscription)]
    places = [place(await client.publish("t", "at once"))]
    async with client:
        async with subscription:
            places.append(place(await client.publish("t", "seen by the child")))
            seen = (await anext(subscription)).payload
        places.append(place(await client.publish("t", "the child's last")))
    return {"refused": refused, "places": places, "seen": seen}


def opened_in_the_parent(socket: str) -> Any:
    """Children of a parent that publishes and reads: at once, one after another, and while its loop runs."""
    told: list[str] = []
    client = pubsubd.connect(
        socket,
        on_lost=lambda why: told.append(f"lost: {why}"),
        on_restored=lambda: told.append("restored"),
    )

    async def parent() -> Any:
        async with client, client.subscribe("t") as subscription:
            places = [place(await client.publish("t", "before"))]
            seen = [(await anext(subscription)).payload]
            # The child's own loop runs inside the fork; its parent's loop may not run there.
            work = lambda: run(_uses(client, subscription))  # noqa: E731
            children = [Child(work) for _ in range(CHILDREN)]
            answers = [child.answer() for child in children]
            answers += [Child(work).answer() for _ in range(CHILDREN)]
            Child(lambda: run(client.close())).answer()
            Child(lambda: run(subscription.close())).answer()
            places.append(place(await client.publish("t", "after")))
            while seen[-1] != "after":
                seen.append((await anext(subscription)).payload)
            return {"places": places, "seen": seen, "told": told, "children": answers}

    return run(parent())


def pickled(socket: str) -> Any:
    """Clients handed to processes by multiprocessing, which pickles (spawn) or forks: an open one, and a closed one."""

    async def parent() -> Any:
        answers = []
        unopened = pubsubd.connect(socket, name="unopened")
        async with pubsubd.connect(socket, name="open") as opened:
            places = [place(await opened.publish("t", "before"))]
            for method in ("spawn", "fork"):
                context: Any = multiprocessing.get_context(method)
                for client in (unopened, opened, opened):
                    queue = context.SimpleQueue()
                    process = context.Process(
                        target=_worker, args=(client, queue, sys.argv[1:]), daemon=True
                    )
                    process.start()
                    process.join(DEADLINE_S)
                    assert process.exitcode == 0, process.exitcode
                    answers.append(queue.get())
            places.append(place(await opened.publish("t", "after")))
        return [places, *answers]

    return run(parent())


def _worker(client: Client, queue: Any, arguments: list[str]) -> None:
    sys.argv[1:] = arguments
    queue.put(run(opened_and_published(client)))


def without_echo(socket: str) -> Any:
    """Each process reads the messages that the others publish, and not its own."""
    client = pubsubd.connect(socket)
    subscription = client.subscribe("t", echo=False)

    async def child() -> Any:
        async with client, subscription, pubsubd.connect(socket) as other:
            await client.publish("t", "own")
            await other.publish("t", "another's")
            await client.publish("t", "own")
            await other.publish("t", "the last")
            seen: list[str] = []
            while not seen or seen[-1] != "the last":
                seen.append((await anext(subscription)).payload)
            return seen

    async def parent() -> Any:
        async with client, subscription:
            await client.publish("t", "the parent's")
            answers = [Child(lambda: run(child())).answer() for _ in range(2)]
            seen: list[str] = []
            while seen.count("the last") < 2:
                seen.append((await anext(subscription)).payload)
            return [*answers, seen]

    return run(parent())


def killed(socket: str) -> Any:
    """Kill a parent while a child of it lives on. Prints the child's process id, for the test to end it."""

    async def parent() -> None:
        async with pubsubd.connect(socket) as client, client.subscribe("t", name="held"):
            pid = os.fork()
            if pid == 0:
                os.close(1)
                signal.pause()
            tell(pid)
            os.kill(os.getpid(), signal.SIGKILL)

    run(parent())


def locked(socket: str) -> Any:
    """A shared client and a shared reload, forked while both are busy."""
    client = pubsubd.connect(socket)
    begun: list[str] = []

    async def slow(expired: pubsubd.CursorExpired) -> None:
        begun.append("reload")
        await asyncio.sleep(0 if os.getpid() != mine else DEADLINE_S)

    mine = os.getpid()
    reload = pubsubd.single_flight(slow, jitter_s=0)
    expired = pubsubd.CursorExpired("a", pubsubd.Reason.UNSEEN, None, 0, "00")

    async def child() -> Any:
        await reload(expired)
        return await opened_and_published(client)

    async def parent() -> Any:
        opening = asyncio.ensure_future(client.__aenter__())
        reloading = asyncio.ensure_future(reload(expired))
        while not begun:
            await asyncio.sleep(0)
        answer = Child(lambda: run(child())).answer()
        reloading.cancel()
        await opening
        places = [place(await client.publish("t", "after"))]
        await client.close()
        return [places, answer]

    return run(parent())


def main() -> None:
    what = {
        work.__name__: work
        for work in (
            at_once,
            one_after_another,
            forked_by_c,
            used_after_a_fork_by_c,
            opened_in_the_parent,
            pickled,
            without_echo,
            killed,
            locked,
        )
    }[sys.argv[1]]
    tell(what(sys.argv[2]))


if __name__ == "__main__":
    main()
