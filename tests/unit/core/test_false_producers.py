"""A producer that breaks the rules of the link, played by the test."""

from __future__ import annotations

import pytest
from tests.unit.core.builders import entry, skip
from tests.unit.core.net import Net, Publisher, Subscriber

from pubsubd_broker.core.config import Config
from pubsubd_broker.core.limits import FETCH_BYTES
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol.attach import Reason, Resume
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    Attached,
    CursorExpired,
    Fetched,
    Heartbeat,
    Skip,
    Welcome,
)
from pubsubd_protocol.positions import MAX_OFFSET, Epoch, Position, StreamView


class Producer:
    """Answers `b`'s dial with frames of the test's choice."""

    def __init__(self) -> None:
        self.net = Net()
        self.node = self.net.start("b", peers=["a"], replica_messages=1)
        self.fake = Node(Config(node="a"), self.net.new_epoch(), [], self.net.now)
        self.net.nodes["a"] = self.fake
        self.net.notices["a"] = []
        self.net.run()

    def says(self, *frames: Entry | Skip | CursorExpired | Fetched | Attached | Heartbeat) -> None:
        served = self.net.link("b", "a").ends[1]
        for frame in frames:
            served.send(frame)
        self.net.run()

    @property
    def refused(self) -> list[str]:
        """The kinds of violation that the consumer found."""
        return list(self.node.events.counters.protocol_errors)


def test_only_a_heartbeat_may_precede_the_answer_to_an_attach() -> None:
    for frame, refused in (
        (Skip("a", Epoch(bytes(16)), 0, 1), ["unexpected_frame"]),
        (Heartbeat(9), []),
    ):
        producer = Producer()
        link = producer.net.link("b", "a")
        link.cut()
        producer.net.mute.add("a")
        producer.net.advance(1)
        producer.net.mute.clear()
        link = producer.net.link("b", "a")
        link.swallows.clear()
        served = link.ends[1]
        served.send(Welcome(1, "a", producer.fake.epoch, 2**20, 2**24, 1))
        served.send(frame)
        producer.net.run()
        assert producer.refused == refused


def test_only_so_many_streams_are_known() -> None:
    net = Net()
    net.start("a")
    b = net.start("b", peers=["a"])
    known = Attached(StreamView(net.new_epoch(), (), 0, 0), Resume(0), None)
    for number in range(b.config.limits.producers):
        b.peers.replicas[f"n{number}"] = Replica(
            f"n{number}", "b", known, Resume(0), 1, 1000, b.pace
        )
    net.advance(2)
    assert not net.linked("b", "a")
    assert "limit" in str(b.targets[0].error)


def test_a_second_answer_to_the_attach_is_a_violation() -> None:
    producer = Producer()
    view = producer.fake.stream.view
    producer.says(Attached(view, Resume(0), None))
    assert producer.refused == ["unexpected_frame"]


def test_a_hole_in_the_stream_is_a_violation_and_a_new_link() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.epoch, 3, 4))
    assert producer.refused == ["offset"]
    assert not producer.net.linked("b", "a")
    producer.net.advance(5)
    assert producer.net.linked("b", "a")


def test_an_answer_to_a_fetch_that_was_not_asked_is_a_violation() -> None:
    producer = Producer()
    producer.says(Fetched(1, producer.fake.stream.view, Resume(0), 0))
    assert producer.refused == ["fetch"]


def asked_of_a_producer() -> Producer:
    """A session of `b` needs 0; `b` holds 2 only, and has asked for the rest."""
    producer = Producer()
    Publisher(producer.net, "a").fill(3)
    link = producer.net.link("b", "a")
    link.swallow(link.ends[0])
    Subscriber(producer.net, "b", positions={"a": Position(producer.fake.epoch, 0)})
    return producer


def fetched(producer: Producer, count: int) -> Fetched:
    return Fetched(1, producer.fake.stream.view, Resume(0), count)


def test_what_answers_a_fetch_follows_on_without_a_hole() -> None:
    for items in ([skip(1, 2)], [skip(0, 1), skip(2, 3)], [skip(0, 2), skip(1, 3)]):
        producer = asked_of_a_producer()
        life = producer.fake.epoch
        producer.says(
            fetched(producer, len(items)),
            *(Skip("a", life, item.first, item.next) for item in items),
        )
        assert producer.refused == ["offset"]


def test_an_answer_that_contradicts_its_own_view_is_a_violation() -> None:
    producer = asked_of_a_producer()
    producer.says(Fetched(1, producer.fake.stream.view, Reason.AHEAD, 0))
    assert producer.refused == ["attach"]


def test_an_expired_cursor_gets_no_messages_with_the_answer() -> None:
    producer = asked_of_a_producer()
    life = producer.fake.epoch
    producer.says(
        Fetched(1, StreamView(life, (), 2, 3), Reason.OVERWRITTEN, 1), Skip("a", life, 2, 3)
    )
    assert producer.refused == ["fetch"]


def test_an_answer_longer_than_asked_is_cut_off() -> None:
    producer = asked_of_a_producer()
    life = producer.fake.epoch
    big = [entry(n, epoch=life, payload=b"x" * (FETCH_BYTES // 2)) for n in range(3)]
    producer.says(fetched(producer, 1000), *big)
    assert producer.refused == ["fetch"]
    producer = asked_of_a_producer()
    life = producer.fake.epoch
    far = Fetched(1, StreamView(life, (), 0, 10**6), Resume(0), 10**6)
    producer.says(far, *(Skip("a", life, n, n + 1) for n in range(FETCH_BYTES // 28 + 2)))
    assert producer.refused == ["fetch"]


def test_an_answer_may_exceed_what_was_asked_by_one_entry() -> None:
    producer = asked_of_a_producer()
    life = producer.fake.epoch
    items: list[Entry | Skip] = [
        entry(0, epoch=life, payload=b"x" * (FETCH_BYTES // 2)),
        entry(1, epoch=life, payload=b"x" * FETCH_BYTES),
        Skip("a", life, 2, 3),
    ]
    producer.says(fetched(producer, 3), *items)
    assert producer.refused == []


def test_the_producers_heartbeat_tells_the_consumer_its_lag() -> None:
    producer = Producer()
    producer.says(Heartbeat(17))
    assert producer.node.peers.producers["a"].lag == 17


@pytest.mark.parametrize(("first", "second"), [(17, 16), (MAX_OFFSET + 1, None)])
def test_a_heartbeat_never_goes_back_nor_beyond_the_last_offset(
    first: int, second: int | None
) -> None:
    producer = Producer()
    producer.says(Heartbeat(first), Heartbeat(second))
    assert producer.refused == ["offset"]


def test_a_heartbeat_below_what_was_sent_is_a_violation() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.epoch, 0, 5), Heartbeat(4))
    assert producer.refused == ["offset"]


def test_a_heartbeat_without_a_figure_leaves_what_is_known() -> None:
    producer = Producer()
    producer.says(Heartbeat(17), Heartbeat())
    assert producer.node.peers.producers["a"].lag == 17


def test_nothing_leads_beyond_the_last_offset() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.epoch, 0, MAX_OFFSET + 1))
    assert producer.refused == ["offset"]


def test_an_answer_to_a_fetch_is_of_the_history_in_its_view() -> None:
    for epoch, following in ((Epoch(bytes(16)), 3), (None, 4)):
        producer = asked_of_a_producer()
        life = producer.fake.epoch if epoch is None else epoch
        producer.says(fetched(producer, 1), Skip("a", life, 0, following))
        assert producer.refused == ["epoch"]


@pytest.mark.parametrize("kind", ["Heartbeat", "CursorExpired", "Fetched"])
def test_nothing_comes_between_an_answer_and_its_messages(kind: str) -> None:
    producer = asked_of_a_producer()
    between: dict[str, Heartbeat | CursorExpired | Fetched] = {
        "Heartbeat": Heartbeat(3),
        "CursorExpired": CursorExpired(
            "a", Reason.OVERWRITTEN, 1, StreamView(producer.fake.epoch, (), 4, 4)
        ),
        "Fetched": fetched(producer, 0),
    }
    producer.says(fetched(producer, 2), Skip("a", producer.fake.epoch, 0, 1), between[kind])
    assert producer.refused == ["unexpected_frame"]


@pytest.mark.parametrize(("payload", "refused"), [(b"", []), (b"other", ["content"])])
def test_one_place_has_one_content_however_it_is_read(payload: bytes, refused: list[str]) -> None:
    """A replica holds offset 2; what is fetched from before leads through that place too."""
    producer = asked_of_a_producer()
    (held,) = [producer.node.peers.replicas["a"].log[2]]
    assert isinstance(held, Entry)
    same = held if not payload else entry(2, epoch=held.epoch, payload=payload)
    producer.says(fetched(producer, 2), Skip("a", held.epoch, 0, 2), same)
    assert producer.refused == refused


def test_a_consumer_tells_the_producer_its_refusal() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.epoch, 3, 4))
    (said,) = producer.net.said("a", "connection.refused")
    assert said["code"] == "protocol"
