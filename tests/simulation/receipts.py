"""The answers that publishers got, checked against the streams (G2) and the clock (G6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.simulation.truth import Published as Message
from tests.simulation.truth import Truth
from tests.simulation.violation import Violation


@dataclass(frozen=True, slots=True)
class Published:
    """A publish as its publisher saw it. `epoch` and `first`: its place; None if it was refused or unanswered.

    `waited_ns`: time from its writing to its answer, if its broker was up, awake and connected all the while.
    `ahead`: the unanswered publishes of the same publisher at that time.
    """

    publisher: str
    node: str
    payloads: tuple[bytes, ...]
    epoch: str | None
    first: int | None
    refused: bool
    waited_ns: int | None
    ahead: int = 0


def answers_publishers_in_time(
    publishes: Iterable[Published], longest_ns: int, pace_ns: int = 0, quarter: int = 1
) -> None:
    """G6: while its broker is there, a publisher gets its answer within a bounded time, whichever other nodes are
    away.

    Readers may hold publishers for `pace_ns` for each `quarter` of the ring, in messages. A publish waits behind
    those of its own publisher, and takes turns with those of others.
    """
    publishes = list(publishes)
    publishers = Counter(node for node, _ in {(p.node, p.publisher) for p in publishes})
    largest = max((len(publish.payloads) for publish in publishes), default=1)
    for publish in publishes:
        before = (publish.ahead + 1) * publishers[publish.node]
        turns = min(before, 2 + before * largest // quarter)
        if publish.waited_ns is not None and publish.waited_ns > longest_ns + turns * pace_ns:
            raise Violation(
                f"G6: {publish.publisher} waited {publish.waited_ns} ns for {publish.payloads[:3]}, behind "
                f"{publish.ahead} others"
            )


def placed_as_told(
    publishes: Iterable[Published], truth: Truth, *, journaled: bool = False
) -> None:
    """G2, for publishers: an accepted batch stands at its place, once in a life of the broker. A refused one stands
    nowhere.

    The batches of one publisher stand in the order of publishing. `journaled`: lives that continue one another are
    one.
    """
    publishes = list(publishes)
    order = {payload: i for i, publish in enumerate(publishes) for payload in publish.payloads}
    kept: dict[str, set[bytes]] = {}
    for node, stream in truth.items():
        kept[node] = set()
        for epoch, messages in stream.messages.items():
            # Messages that an epoch took over were placed in an earlier life.
            placed = [m for offset, m in sorted(messages.items()) if offset >= stream.starts[epoch]]
            whole = messages.values() if journaled else placed
            own = [m.payload for m in whole]
            _in_order(node, epoch, placed, order)
            if len(set(own)) != len(own):
                twice = next(payload for payload in own if own.count(payload) > 1)
                raise Violation(f"G2: {node} placed {twice!r} twice in {epoch}")
            kept[node].update(own)
    for publish in publishes:
        stream = truth[publish.node]
        if publish.epoch is not None and publish.first is not None:
            held = stream.messages.get(publish.epoch, {})
            found = [held.get(publish.first + i) for i in range(len(publish.payloads))]
            if [message and message.payload for message in found] != list(publish.payloads):
                raise Violation(
                    f"G2: {publish.publisher} was told {publish.first} of {publish.epoch} for {publish.payloads}"
                )
        elif publish.refused and kept[publish.node].intersection(publish.payloads):
            raise Violation(
                f"G2: {publish.publisher} was refused {publish.payloads}, the stream has it"
            )


def _in_order(node: str, epoch: str, placed: Iterable[Message], order: Mapping[bytes, int]) -> None:
    last: dict[bytes, int] = {}
    for message in placed:
        number = order.get(message.payload)
        if number is not None:
            if number < last.get(message.publisher, 0):
                raise Violation(f"order: {message.payload!r} came too late in {epoch} of {node}")
            last[message.publisher] = number
