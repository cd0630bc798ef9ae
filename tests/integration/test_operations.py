"""What operations do to a broker and to what is around it: processes that hang, connections without end."""

from __future__ import annotations

from tests.integration.cluster import Broker, wait_until
from tests.integration.hostile import RawConnection, publish
from tests.integration.steps import StartBroker

from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Ack, Receipt, Subscribe, Subscribed, Welcome
from pubsubd_protocol.positions import Position


def test_a_named_session_that_reconnected_and_then_crashed_begins_at_its_acknowledgement(
    start_broker: StartBroker,
) -> None:
    """What it had received counts for the reconnect; what it was done with, for its next life."""
    a = start_broker("a")
    with RawConnection(a.socket) as publisher:
        assert isinstance(publisher.greet("publisher"), Welcome)
        for sequence in range(10):
            publisher.send(publish(sequence=sequence))
            assert isinstance(publisher.frame(), Receipt)
    first = Subscribe((">",), "earliest", None, None, "projector", True)
    with RawConnection(a.socket) as life:
        life.greet("session")
        life.send(encode(first))
        stands = life.frame()
        assert isinstance(stands, Subscribed)
        entries = [life.frame() for _ in range(10)]
        last = entries[-1]
        assert isinstance(last, Entry)
        life.send(encode(Ack("a", Position(last.epoch, 3))))
    left(a)
    received = Position(last.epoch, 10)
    with RawConnection(a.socket) as reconnected:
        reconnected.greet("session")
        again = Subscribe((">",), "earliest", {"a": received}, stands.born, "projector", True)
        reconnected.send(encode(again))
        stands_again = reconnected.frame()
        assert isinstance(stands_again, Subscribed)
        assert stands_again.positions["a"] == received
    left(a)
    with RawConnection(a.socket) as next_life:
        next_life.greet("session")
        next_life.send(encode(first))
        resumed = next_life.frame()
        assert isinstance(resumed, Subscribed)
        assert resumed.resumed
        assert resumed.positions["a"] == Position(last.epoch, 3)
        entry = next_life.frame()
        assert isinstance(entry, Entry)
        assert entry.first == 3


def left(broker: Broker) -> None:
    """Returns when no session is connected any more."""
    wait_until(lambda: broker.metric("sessions") == 0)
