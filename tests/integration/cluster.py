"""A full mesh of real brokers, with a relay on every directed link.

    with Cluster(tmp_path, 3, ring_messages=100) as cluster:        # a, b, c, all connected
        cluster["a"].kill()
        cluster.link("b", "a").cut()                                # b can't pull from a any more

Options are those of `Broker`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.integration.broker import START_TIMEOUT_S, Broker
from tests.integration.relay import Relay
from tests.integration.waiting import wait_until


class Cluster:
    """A full mesh of brokers. Each reaches each other through a relay that only this link uses.

    `nodes`: their number ("a", "b", "c", …) or their names. Options go to every broker; `per_node` to one.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int | Sequence[str] = 3,
        *,
        command: Sequence[str] | None = None,
        per_node: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        names = [chr(ord("a") + i) for i in range(nodes)] if isinstance(nodes, int) else nodes
        self._links = {
            (consumer, producer): Relay()
            for consumer in names
            for producer in names
            if consumer != producer
        }
        self.brokers: dict[str, Broker] = {}
        for name in names:
            peers = [link.endpoint for (who, _), link in self._links.items() if who == name]
            own = {**options, **(per_node or {}).get(name, {})}
            broker = Broker(folder, name, peers, command=command, same_port=False, **own)
            broker.on_started.append(self._lead_to)
            self.brokers[name] = broker

    def __getitem__(self, name: str) -> Broker:
        return self.brokers[name]

    def __iter__(self) -> Iterator[Broker]:
        return iter(self.brokers.values())

    def link(self, consumer: str, producer: str) -> Relay:
        """The relay through which `consumer` pulls the stream of `producer`."""
        return self._links[consumer, producer]

    def links(self, node: str) -> list[Relay]:
        """Every relay to and from `node`."""
        return [link for pair, link in self._links.items() if node in pair]

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut every link between nodes of different groups; heal those within one."""
        group_of = {node: i for i, group in enumerate(groups) for node in group}
        for (consumer, producer), link in self._links.items():
            if group_of.get(consumer, -1) == group_of.get(producer, -1):
                link.heal()
            else:
                link.cut()

    def heal(self) -> None:
        """Heal every link."""
        for link in self._links.values():
            link.heal()

    def start(self, *, wait_ready: bool = True) -> Self:
        """Start all that are not running, at once, and wait until all are connected to all."""
        starting = [broker for broker in self if not broker.alive]
        for broker in starting:
            broker.start(wait=False)
        for broker in starting:
            broker.wait_started()
        if wait_ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until every running broker has reached every peer once."""
        for broker in self:
            if broker.alive:
                wait_until(broker.ready, timeout_s, f"readiness of broker {broker.node}")

    def wait_connected(
        self, consumer: str, producer: str, timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Wait until `consumer` is attached to `producer`, as `consumer` reports it."""
        wait_until(
            lambda: self[consumer].metric("peer_connected", peer=producer) == 1,
            timeout_s,
            f"the link from {consumer} to {producer}",
        )

    def tail(self) -> str:
        return "\n".join(broker.tail() for broker in self)

    def close(self) -> None:
        """End every process and every relay. A second call does nothing."""
        with contextlib.ExitStack() as stack:
            for link in self._links.values():
                stack.callback(link.close)
            for broker in self:
                stack.callback(broker.close)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            sys.stderr.write(self.tail() + "\n")
            raise

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.close()
        if error is not None:
            sys.stderr.write(self.tail() + "\n")

    def _lead_to(self, broker: Broker) -> None:
        host, _, port = broker.listen.rpartition(":")
        for (_, producer), link in self._links.items():
            if producer == broker.node:
                link.target = (host, int(port))
