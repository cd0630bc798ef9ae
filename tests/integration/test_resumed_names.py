"""A named session resumes on a broker without memory, and dies before it has sent anything more."""

from __future__ import annotations

import signal

from tests.asynchronous import async_test
from tests.integration.hostile import RawConnection, hello
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    cut,
    events_to,
    heal,
    in_thread,
    next_event,
    publish,
    subscribed,
    told,
)
from tests.integration.waiting import wait_until, wait_until_async

import pubsubd
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import Refused, Subscribe, Subscribed, Welcome
from pubsubd_protocol.positions import Position, load_positions


@async_test
async def test_unhandled_messages_come_again_after_both_crashed(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    b = cluster["b"]
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        async with subscribed(b) as witness:
            begin = witness.position
        await publish(at_a, range(100))
        await cut(cluster, "b", "a")
        await in_thread(b.restart, signal.SIGKILL)
        # The last words of an application that has received all messages and was handed eight.
        received = load_positions(begin)
        epoch = received["a"].epoch
        received["a"] = Position(epoch, 100)
        done = received | {"a": Position(epoch, 8)}
        resumes = Subscribe((">",), "latest", received, epoch, "projector", True, done)
        with RawConnection(b.socket) as raw:
            raw.send(hello("session"))
            assert isinstance(raw.frame(), Welcome)
            raw.send(encode(resumes))
            assert isinstance(raw.frame(), Subscribed)
        await wait_until_async(
            lambda: not any(s["connected"] for s in b.status()["sessions"]), DEADLINE_S
        )
        await heal(cluster, "b", "a")
        async with subscribed(b, name="projector") as projector:
            await at_a.publish("numbers", "end")
            events = told(await events_to(projector, "end"))
    events.remove(("b", "state_lost", None))
    assert events == [*range(8, 100), "end"]


def test_a_taken_name_is_told_by_the_brokers_next_life(start_cluster: StartCluster) -> None:
    """After a clean stop the broker's own witnesses prove that it still knows the name's holder; after a crash it
    does not.
    """
    a = start_cluster(1)["a"]

    def opens(session_id: bytes, born: bytes | None = None) -> Subscribed | Refused:
        positions = None if born is None else dict[str, Position]()
        asks = Subscribe(
            (">",), "latest", positions, born, "projector", True, positions, session_id
        )
        with RawConnection(a.socket) as raw:
            raw.send(hello("session"))
            assert isinstance(raw.frame(), Welcome)
            raw.send(encode(asks))
            answer = raw.frame()
        assert isinstance(answer, Subscribed | Refused)
        wait_until(lambda: not any(s["connected"] for s in a.status()["sessions"]), DEADLINE_S)
        return answer

    first, other = opens(b"m" * 16), opens(b"o" * 16)
    assert isinstance(first, Subscribed)
    assert isinstance(other, Subscribed)
    a.restart()
    lost = opens(b"m" * 16, first.born)
    assert isinstance(lost, Refused)
    assert lost.code == "name_lost"
    assert isinstance(opens(b"o" * 16, other.born), Subscribed)
    a.restart(signal.SIGKILL)
    assert isinstance(opens(b"m" * 16, first.born), Subscribed)


@async_test
async def test_the_first_of_ten_lives_can_be_acknowledged_at_the_end(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    a, b = cluster["a"], cluster["b"]
    messages: list[pubsubd.Message] = []
    async with subscribed(b, name="projector", ack="manual") as projector:
        for life in range(10):
            if life:
                await in_thread(a.restart, signal.SIGKILL)
                assert told([await next_event(projector)]) == [("a", "state_lost", None)]
            async with pubsubd.connect(a.socket) as at_a:
                await at_a.publish("numbers", life)
            events = await events_to(projector, life)
            messages += [e for e in events if isinstance(e, pubsubd.Message)]
        assert len({message.epoch for message in messages}) == len(messages) == 10
        await projector.ack(messages[0])
        await projector.ack(messages[-1])
        await projector.ack(messages[3])
        end = projector.position
    async with subscribed(b, name="projector") as again:
        assert again.resumed
        assert again.position["a"] == end["a"]
