"""Checks the health that sessions are told: within seconds, which producers their broker does not hear, and their
return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.simulation.clockwork import MS
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.brokers import SimBroker
    from tests.simulation.subscriber import Subscriber
    from tests.simulation.world import World

EVERY_NS: Final = 200 * MS
TOLD_WITHIN_NS: Final = 1_350 * MS
"""A peer timeout, plus late ticks and slow wires."""

BACK_WITHIN_NS: Final = 15_000 * MS
"""The longest back-off, a handshake lost on the way, and the timeout that ends it."""


class HealthWatch:
    """Compares what sessions were told with the brokers that ran and the wires that carried, and for how long."""

    def __init__(self, world: World) -> None:
        self._world = world
        # The time since when a broker has not run.
        self._quiet_ns: dict[str, int] = {}
        # The times since when the first broker cannot hear the second, and since when it could.
        self._apart_ns: dict[tuple[str, str], int] = {}
        self._clear_ns: dict[tuple[str, str], int] = {}
        self._reads_ns: dict[str, tuple[object, int]] = {}
        world.clockwork.after(EVERY_NS, self._look)

    def _look(self) -> None:
        world, now_ns = self._world, self._world.clockwork.now_ns
        held = {w.ends for w in world.links() if w.out.held or w.back.held}
        for broker in world.brokers.values():
            if _runs(broker):
                self._quiet_ns.pop(broker.name, None)
            else:
                self._quiet_ns.setdefault(broker.name, now_ns)
        for pair in ((near, far) for near in world.brokers for far in world.brokers if near != far):
            disturbed = any(
                ends in world.cuts or ends in held for ends in (pair, (pair[1], pair[0]))
            )
            if disturbed or any(name in self._quiet_ns for name in pair):
                self._clear_ns.pop(pair, None)
            else:
                self._clear_ns.setdefault(pair, now_ns)
            # A broker hears a producer by the link that it has dialled.
            if pair in world.cuts or pair[1] in self._quiet_ns:
                self._apart_ns.setdefault(pair, now_ns)
            else:
                self._apart_ns.pop(pair, None)
        for subscriber in world.subscribers:
            self._judge(subscriber, now_ns)
        world.clockwork.after(EVERY_NS, self._look)

    def _judge(self, subscriber: Subscriber, now_ns: int) -> None:
        socket = subscriber.socket
        if socket is None or not (_runs(subscriber.broker) and subscriber.undisturbed):
            self._reads_ns.pop(subscriber.name, None)
            return
        reads, since_ns = self._reads_ns.setdefault(subscriber.name, (socket, now_ns))
        if reads is not socket:
            self._reads_ns[subscriber.name] = socket, now_ns
            return
        if not subscriber.hears:
            # The notice may be on its way.
            return
        for node in subscriber.history.at.keys() - {subscriber.broker.name}:
            told_lost = node in subscriber.health.unreachable
            pair = subscriber.broker.name, node
            apart_ns = max(self._apart_ns.get(pair, now_ns), since_ns)
            clear_ns = max(self._clear_ns.get(pair, now_ns), since_ns)
            if not told_lost and now_ns - apart_ns > TOLD_WITHIN_NS:
                self._fails(subscriber, f"was not told that {node} is not heard", apart_ns)
            if told_lost and now_ns - clear_ns > BACK_WITHIN_NS:
                self._fails(subscriber, f"was not told that {node} is heard again", clear_ns)
            self._world.counts["lost producers told"] += told_lost

    def _fails(self, subscriber: Subscriber, what: str, since_ns: int) -> None:
        ms = (self._world.clockwork.now_ns - since_ns) // MS
        raise Violation(f"health: {subscriber.name} on {subscriber.broker.name} {what} for {ms} ms")


def _runs(broker: SimBroker) -> bool:
    return broker.node is not None and not broker.paused
