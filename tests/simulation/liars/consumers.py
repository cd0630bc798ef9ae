"""Lies of a broker that pulls: false acknowledgements and false requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

from tests.simulation.liars.end import LyingEnd
from tests.simulation.liars.lies import Falsehood
from tests.simulation.liars.producers import TOO_FAR, TOO_LONG, UNKNOWN, false_entry
from tests.simulation.wires import Wire

from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_protocol.attach import At, Earliest
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS
from pubsubd_protocol.frames import MAGIC, VERSION, Ack, Attach, Fetch, Hello, Subscribe
from pubsubd_protocol.positions import Epoch, Position

FLOOD: Final = 60
"""Fetches at once: more of them arrive together than are allowed, however their bytes are split."""

_OTHER: Final = Epoch(b"another history.")


class Consuming(LyingEnd):
    """A link over which a stream is pulled, from its consumer's view. It has acknowledged all before `acknowledged`."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.out)

    @property
    def possible(self) -> bool:
        """Whether a lie can be told: the attach has been answered, and all frames of the consumer are on their way."""
        end, receiver = self.liar.connection.end, self.receiver.connection
        return (
            isinstance(end, ConsumerEnd)
            and end.replica is not None
            and isinstance(receiver.end, ProducerEnd)
            and self.believed
        )

    def begin(self) -> None:
        end = self.liar.connection.end
        assert isinstance(end, ConsumerEnd)
        assert end.replica is not None
        self.at = end.replica.registration
        self.acknowledged = end._acknowledged
        self.epoch = end.replica.log.view.epoch
        """The producer's present epoch. While it has no entries, `at` still names an earlier one."""

    def ack(self, offset: int, named: dict[str, Position | None] | None = None) -> Ack:
        return Ack(self.other, Position(self.at.epoch, offset), named or {})


def _back(at: Consuming) -> Falsehood | None:
    return Falsehood("ack", (at.ack(at.acknowledged - 1),)) if at.acknowledged > 0 else None


def _named(at: Consuming, name: str, position: Position) -> Ack:
    return at.ack(max(0, at.acknowledged), {name: position})


_LIES: Final[Mapping[str, Callable[[Consuming], Falsehood | None]]] = {
    "has what was not sent": lambda at: Falsehood("ack", (at.ack(at.at.offset + 10**9),)),
    "has less than before": _back,
    "has another epoch": lambda at: Falsehood(
        "ack", (Ack(at.other, Position(_OTHER, at.at.offset)),)
    ),
    "has another stream": lambda at: Falsehood("ack", (Ack(at.node, at.at),)),
    # An honest session may stand beyond the end of an earlier epoch: it has read messages that the producer lost.
    "its session has what was not sent": lambda at: Falsehood(
        "ack", (_named(at, "liar", Position(at.epoch, at.at.offset + 10**9)),)
    ),
    "a session without a name": lambda at: Falsehood("malformed", (_named(at, "", at.at),)),
    "more sessions than there may be": lambda at: Falsehood(
        "malformed",
        (at.ack(0, {f"s{n}": at.at for n in range(MAX_NAMED_SESSIONS + 1)}),),
    ),
    "asks for somebody else's stream": lambda at: Falsehood(
        "fetch", (Fetch(1, Earliest(), 0, "elsewhere"),)
    ),
    "asks for too much at once": lambda at: Falsehood(
        "fetch", tuple(Fetch(TOO_FAR + n, At(at.at), 0) for n in range(FLOOD))
    ),
    "attaches twice": lambda at: Falsehood("unexpected_frame", (Attach(At(at.at)),)),
    "greets twice": lambda at: Falsehood(
        "unexpected_frame", (Hello(MAGIC, VERSION, VERSION, "peer", at.node, bytes(16)),)
    ),
    "sends a message": lambda at: Falsehood(
        "unexpected_frame", (false_entry(at.other, at.at.epoch, at.at.offset),)
    ),
    "subscribes": lambda at: Falsehood(
        "unexpected_frame", (Subscribe((">",), "latest", None, None, None, True),)
    ),
    "a frame that is too long": lambda at: Falsehood("frame_length", (TOO_LONG,)),
    "a frame of no kind": lambda at: Falsehood("unknown_frame", (UNKNOWN,)),
}

CONSUMERS: Final = {f"consumer: {name}": lie for name, lie in _LIES.items()}


def lie_of_consumer(
    wires: list[Wire], name: str, chance: random.Random
) -> tuple[Consuming, Falsehood] | None:
    """Tell the lie over one of these links, if it can be told now."""
    links = [link for link in map(Consuming, wires) if link.possible]
    chance.shuffle(links)
    for link in links:
        link.begin()
        false = CONSUMERS[name](link)
        if false is not None:
            return link, false
    return None
