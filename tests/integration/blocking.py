"""Programs that use a blocking client under signals and forks: `python -m tests.integration.blocking WHAT SOCKET`.

Each prints one JSON value: what its processes saw.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from tests.integration.forking import CHILDREN, EACH, Child, Places, place, tell

import pubsubd
import pubsubd.sync
from pubsubd import CursorExpired, PublishUnknown, PubSubError
from pubsubd.sync import Client

THREADS: Final = 4
MESSAGES: Final = 400
LONGEST_PAUSE_S: Final = 0.004
GET_S: Final = 0.2


class Interrupted(BaseException):
    """Raised by the handler of a signal, as `KeyboardInterrupt` is."""


def published(client: Client, start: int = 0) -> Places:
    name = f"{os.getpid()}"
    return [place(client.publish("t", f"{name}/{n}")) for n in range(start, start + EACH)]


def interrupted_wait(socket: str) -> Any:
    """SIGINT in a wait for a message: the wait ends, and the next one goes on."""
    with pubsubd.sync.connect(socket) as client, client.subscribe("t") as subscription:
        try:
            tell("waits")
            subscription.get()
        except KeyboardInterrupt:
            tell("interrupted")
        message = subscription.get()
        assert message is not None
        return message.payload


def closed_by_a_handler(socket: str) -> Any:
    """The handler of SIGTERM closes the subscription: iterating ends with `ClientClosed`."""
    with pubsubd.sync.connect(socket) as client:
        subscription = client.subscribe("t")
        signal.signal(signal.SIGTERM, lambda number, frame: subscription.close())
        try:
            tell("waits")
            next(subscription)
        except PubSubError as error:
            return [type(error).__name__, client.publish("t", "after").offset]
    return None


def used_by_a_handler(socket: str) -> Any:
    """The handler of SIGTERM publishes while the main thread waits for a message of another connection."""
    with pubsubd.sync.connect(socket) as client, client.subscribe("t") as subscription:
        signal.signal(signal.SIGTERM, lambda number, frame: client.publish("t", "from the handler"))
        tell("waits")
        message = subscription.get()
        assert message is not None
        return message.payload


class Storm:
    """Signals at random times, whose handler raises `Interrupted`, but only between `on` and `off`."""

    def __init__(self) -> None:
        self.count = 0
        self._on = False
        self._random = random.Random(1)
        signal.signal(signal.SIGALRM, self._strike)

    def _strike(self, number: int, frame: object) -> None:
        if self._on:
            self._on = False
            self.count += 1
            raise Interrupted

    def calm(self, call: Callable[[], Any]) -> Any:
        """The result of `call` under one signal. None if the handler raised."""
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-6, LONGEST_PAUSE_S))
        self._on = True
        try:
            result = call()
            self._on = False
            return result
        except Interrupted:
            return None
        finally:
            self._on = False


def interrupted_at_random(socket: str) -> Any:
    """Another thread publishes, the main thread reads under signals: it gets each message, once and in order."""
    storm = Storm()
    with (
        pubsubd.sync.connect(socket) as publisher,
        pubsubd.sync.connect(socket) as client,
        client.subscribe("t") as subscription,
    ):

        def publish() -> None:
            for number in range(MESSAGES):
                publisher.publish("t", number)

        thread = threading.Thread(target=publish)
        thread.start()
        seen: list[Any] = []
        while not seen or seen[-1] != MESSAGES - 1:
            message = storm.calm(lambda: subscription.get(timeout=GET_S))
            if message is not None:
                seen.append(message.payload)
        thread.join()
        return {"seen": seen, "interrupted": storm.count}


def interrupted_publishing(socket: str) -> Any:
    """Threads publish on one client while signals interrupt the main thread, which publishes, too.

    Each gets a receipt or an error that says that the outcome is unknown, and none waits for ever.
    """
    storm = Storm()
    receipts: list[tuple[str, int]] = []
    unknown = itertools.count()
    done = threading.Event()
    with pubsubd.sync.connect(socket) as client:

        def publish() -> None:
            while not done.is_set():
                try:
                    receipts.append(place(client.publish("t", "a thread's")))
                except PublishUnknown:
                    next(unknown)

        threads = [threading.Thread(target=publish) for _ in range(THREADS - 1)]
        for thread in threads:
            thread.start()
        for _ in range(MESSAGES):
            try:
                receipt = storm.calm(lambda: client.publish("t", "the main thread's"))
            except PublishUnknown:
                next(unknown)
            else:
                if receipt is not None:
                    receipts.append(place(receipt))
        done.set()
        for thread in threads:
            thread.join()
        receipts.append(place(client.publish("t", "last")))
        try:
            client.flush()
        except PublishUnknown:
            next(unknown)
        return {"receipts": receipts, "interrupted": storm.count, "unknown": next(unknown)}


def forked(socket: str) -> Any:
    """Children of a parent with an open client, a subscription, and other threads that publish."""
    client = pubsubd.sync.connect(socket)
    subscription = client.subscribe("t")
    mine = published(client)
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            mine.append(place(client.publish("t", "a thread's")))

    def child() -> Any:
        try:
            subscription.get(timeout=0)
        except PubSubError as error:
            refusal = type(error).__name__
        places = published(client)
        with client.subscribe("t", start="earliest") as own:
            event = next(own.events())
            assert not isinstance(event, CursorExpired)
        client.close()
        return {"places": places, "refusal": refusal, "first": event.offset}

    # By C code first: Python does not survive such a fork beside threads that run.
    children = [Child(child, fork=ctypes.PyDLL(None).fork)]
    threads = [threading.Thread(target=publish) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    children += [Child(child) for _ in range(CHILDREN)]
    answers = [each.answer() for each in children]
    done.set()
    for thread in threads:
        thread.join()
    seen = [subscription.get(timeout=0) is not None for _ in range(EACH)]
    mine += published(client)
    subscription.close()
    client.close()
    return {"parent": mine, "children": answers, "seen": seen}


def main() -> None:
    what, socket = sys.argv[1:]
    tell(globals()[what](socket))


if __name__ == "__main__":
    main()
