"""Containers that are recreated under new names, from a seed: the rules that make room among consumers and producers.

In the cluster of `world.py` every node keeps its name. Here one node has room for few others, and reads from two
addresses at which ever other nodes answer. Each of them keeps its accepted messages, and no ring is ever full. So the
only allowed loss is that of a needed replica given up after the time-to-live. In the end every name is back once
more.
"""

from __future__ import annotations

import random
from typing import Final

from tests.simulation.violation import Violation
from tests.unit.core.journal.disk import Disk
from tests.unit.core.net import Net, Publisher, Subscriber

from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_broker.core.limits import SECOND_NS, Limits

TTL_S: Final = 20
REDIALLED_S: Final = 6
"""Time within which an address is dialled again."""

PRODUCERS: Final = 2
CONSUMERS: Final = 3
ADDRESSES: Final = ("x", "y")
READER: Final = "reader"
STEPS: Final = 60
NAMED: Final = 2
"""The session that has a name."""


def run_recreated(seed: int) -> None:
    """Raises `Violation`."""
    try:
        Recreated(seed).run()
    except AssertionError as error:
        raise Violation(f"seed {seed}: {error}") from error


class Recreated:
    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"{seed} recreated")
        self._net = Net()
        # Only processes end here: the files that they leave in memory say that they lost no message.
        self._net.witnessed = True
        limits = Limits(producers=PRODUCERS, consumers=CONSUMERS)
        self._reader = self._net.start(
            READER, peers=ADDRESSES, limits=limits, cursor_ttl_ns=TTL_S * SECOND_NS
        )
        self._disks: dict[str, Disk] = {}
        self._at: dict[str, str] = {}
        """The node that answers at each address."""
        self._lost_ns: dict[str, int] = {}
        self._with_names_ns: dict[str, int] = {}
        """The times when consumers with named sessions were last there."""
        self._sessions = [
            Subscriber(self._net, READER, ">"),
            Subscriber(self._net, READER, "rare"),
            Subscriber(self._net, READER, ">", session="n"),
        ]
        self._told: set[str] = set()
        """Producers whose replica was given up though it was needed."""
        self._heard = 0

    def run(self) -> None:
        for _ in range(STEPS):
            self._step()
            self._check()
        for session in self._sessions:
            session.read_on()
        for name in list(self._disks):
            self._recreate("x", name)
            self._net.advance(TTL_S + REDIALLED_S)
            assert name in self._reader.peers.producers, f"{name} is not read again"
            end = self._publish("x", "rare")
            self._net.advance(1)
            for session in self._sessions:
                assert session.positions[name].offset == end, f"{name} ends at {end}: {session.log}"
            self._check()

    def _step(self) -> None:
        chance, net = self._chance, self._net
        address = chance.choice(ADDRESSES)
        what = chance.choices(
            ["recreate", "publish", "pause", "reconnect", "advance", "name", "acknowledge"],
            [3, 6, 2, 2, 2, 1, 3],
        )[0]
        match what:
            case "recreate":
                absent = [name for name in self._disks if name not in self._at.values()]
                fresh = not absent or chance.random() < 0.6
                name = f"container-{len(self._disks)}" if fresh else chance.choice(absent)
                self._recreate(address, name)
                net.advance(chance.choice([0, REDIALLED_S]))
            case "publish" if address in self._at:
                self._publish(address, chance.choice(["t", "rare"]))
            case "pause":
                session = chance.choice(self._sessions)
                if session.connection.writable:
                    session.stop_reading()
                else:
                    session.read_on()
            case "reconnect":
                self._reconnect(chance.randrange(len(self._sessions)))
            case "advance":
                net.advance(chance.choice([0.25, 1, 5, TTL_S]))
            case "name" if address in self._at:
                Subscriber(net, address, session="n")
            case "acknowledge":
                for node in self._sessions[NAMED].positions:
                    self._sessions[NAMED].acknowledge(node)

    def _recreate(self, address: str, name: str) -> None:
        for occupied, occupant in list(self._at.items()):
            if occupied == address or occupant == name:
                if occupant in self._reader.peers.producers:
                    self._lost_ns[occupant] = self._net.now.mono_ns
                self._net.stop(occupied)
                del self._at[occupied]
        disk = self._disks.setdefault(name, Disk(Fsync.INTERVAL))
        self._net.start(address, peers=[READER], called=name, disk=disk)
        self._at[address] = name

    def _publish(self, address: str, topic: str) -> int:
        """Returns the stream's next offset."""
        Publisher(self._net, address).publish("", topic=topic)
        self._net.write(address)
        return self._net.nodes[address].stream.next

    def _reconnect(self, number: int) -> None:
        before = self._sessions[number]
        before.cut()
        again = Subscriber(
            self._net,
            READER,
            "rare" if number == 1 else ">",
            positions=dict(before.positions),
            born=before.born,
            session="n" if number == NAMED else None,
        )
        again.log = {node: list(events) for node, events in before.log.items()} | again.log
        self._sessions[number] = again

    def _check(self) -> None:
        net, reader = self._net, self._reader
        assert len(reader.peers.replicas) <= PRODUCERS
        assert len(reader.registry) <= CONSUMERS
        assert reader.events.counters.messages_received.keys() <= reader.peers.replicas.keys()
        for given_up in net.said(READER, "producer.given_up")[self._heard :]:
            self._heard += 1
            name = str(given_up["producer"])
            if given_up["needed"]:
                away_ns = net.now.mono_ns - self._lost_ns[name]
                assert away_ns > TTL_S * SECOND_NS, f"{name} was needed, and given up at once"
                self._told.add(name)
        self._check_names()
        for session in self._sessions:
            for name, events in session.log.items():
                lost = [e for e in events if isinstance(e, str) and not e.startswith("told")]
                assert not lost or name in self._told, f"{name}: told {lost}, nothing is lost"

    def _check_names(self) -> None:
        """A consumer with a named session is not given up within the time-to-live."""
        now_ns = self._net.now.mono_ns
        kept = {name for name, _ in self._reader.registry.items()}
        for name, seen_ns in list(self._with_names_ns.items()):
            if name not in kept:
                assert now_ns - seen_ns > TTL_S * SECOND_NS, f"{name} has names, and was given up"
                del self._with_names_ns[name]
        for name, registered in self._reader.registry.items():
            if registered.named and registered.connected:
                self._with_names_ns[name] = now_ns
