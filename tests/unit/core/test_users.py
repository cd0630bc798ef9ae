"""Several users of one broker: none takes all that there is, none gets at what is another's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import takewhile

from tests.unit.core.net import Net, RawClient
from tests.unit.core.nets import bounded, refused
from tests.unit.protocol.strategies import batch_of

from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.frames import Frame, Receipt, Refused, Subscribe
from pubsubd_protocol.framing import BUFFER_BYTES

KIB = 1024


def batch(topic: str, sequence: int, *, retry: bool = False) -> Batch:
    return batch_of([(topic, b"x")], sequence=sequence, retry=retry)


def subscribe(pattern: str, name: str | None = None, *, echo: bool = True) -> Subscribe:
    return Subscribe((pattern,), "latest", None, None, name, echo)


def raw(net: Net, uid: int, role: str = "control", *frames: Frame, life: bytes = b"") -> RawClient:
    """A connection of this user, that says these after its greeting."""
    remote = dataclasses.replace(net.remote(f"of {uid}"), host=None, uid=uid, gid=uid)
    client = RawClient(net, "a", role, remote=remote, life=life)
    client.send(*frames)
    return client


def served(clients: Iterable[RawClient]) -> int:
    """The number of `clients`, made one after the other, before one is refused."""
    return sum(1 for _ in takewhile(lambda client: client.refusal is None, clients))


def test_a_user_leaves_as_many_commands_to_others_as_it_has() -> None:
    net, node = bounded(commands=8)
    assert served(raw(net, 1001) for _ in range(9)) == 4
    assert served(raw(net, 1002) for _ in range(9)) == 2
    assert refused(node, "too_many_commands") == 2
    refusal = raw(net, 1001).last
    assert isinstance(refusal, Refused)
    assert refusal.detail == (
        "connected commands: 6 of 8 are taken, 4 of them by uid 1001, "
        "which must leave as much to others"
    )
    # The broker's operator takes the room that is left.
    assert served(raw(net, 0) for _ in range(9)) == 2


def test_refused_users_leave_room_for_others_and_for_the_operator() -> None:
    net, _ = bounded(connections_per_uid=1, commands=200)
    held = [raw(net, 1001) for _ in range(100)]
    assert [each.refusal for each in held[:33]] == [None] * 33
    assert [each.lost for each in held[33:]] == [True] * 67
    assert [raw(net, 1002).lost for _ in range(100)].count(False) == 1 + 16
    assert [raw(net, 0).lost for _ in range(2)] == [False, False]


def test_a_user_leaves_as_many_sessions_to_others_as_it_has() -> None:
    net, _ = bounded(sessions=8)
    asked = subscribe("t")
    of_one = [raw(net, 1001, "session", asked) for _ in range(5)]
    assert served(iter(of_one)) == 4
    assert served(raw(net, 1002, "session", asked) for _ in range(9)) == 2
    assert served(raw(net, 0, "session", asked) for _ in range(9)) == 2
    of_one[0].cut()
    assert raw(net, 0, "session", asked).refusal is None


def test_a_user_leaves_as_many_session_names_to_others_as_it_keeps() -> None:
    net, node = bounded(named_sessions=8)

    def named(uid: int) -> Iterator[RawClient]:
        for i in range(9):
            client = raw(net, uid, "session", subscribe("t", name=f"s{i}"))
            yield client
            client.cut()

    assert served(named(1001)) == 4
    assert served(named(1002)) == 2
    assert served(named(0)) == 2
    assert refused(node, "too_many_sessions") == 3
    # Those that are kept come back.
    assert raw(net, 1001, "session", subscribe("t", name="s0")).refusal is None


def test_a_users_unfinished_large_frames_leave_room_for_others() -> None:
    frame = encode(batch_of([("t", bytes(BUFFER_BYTES + 100 * KIB))]))
    over = len(frame) - BUFFER_BYTES
    net, node = bounded(receive_bytes=4 * over)
    stuck = [raw(net, 1001, "publisher") for _ in range(4)]
    for each in stuck:
        each.send_bytes(frame[:-1])
    assert [each.refusal for each in stuck] == [None, None, *["too_much_unfinished"] * 2]
    assert node.connections.receiving.used == 2 * over
    for uid in (1002, 0):
        publisher = raw(net, uid, "publisher")
        publisher.send_bytes(frame)
        assert isinstance(publisher.last, Receipt)


# Publishers.


def entries(client: RawClient) -> list[Entry]:
    return [frame for frame in client.frames if isinstance(frame, Entry)]


def test_a_user_cannot_change_another_users_publisher_record() -> None:
    net, node = bounded()
    reader = raw(net, 1003, "session", subscribe(">"))
    victim = raw(net, 1001, "publisher", batch("pay", 0), life=b"v" * 16)
    seen = entries(reader)[0].publisher
    for life in (b"v" * 16, seen):
        thief = raw(net, 1002, "publisher", batch("junk", 1), batch("junk", 2**62), life=life)
        assert [type(answer) for answer in thief.frames[1:]] == [Receipt, Receipt]
    victim.send(batch("pay", 1))
    assert isinstance(victim.last, Receipt)
    assert [entry.topics for entry in entries(reader)].count("pay") == 2
    # Nor does the user get answers for them.
    again = raw(net, 1004, "publisher", batch("pay", 1, retry=True), life=seen).last
    assert isinstance(again, Receipt)
    assert again.first == node.stream.next - 1


def test_no_user_s_record_is_driven_out_by_those_of_another() -> None:
    net, node = bounded(publishers=4)
    raw(net, 1001, "publisher", batch("t", 0), life=b"v" * 16).cut()
    for number in range(20):
        raw(net, 1002, "publisher", batch("t", 0), life=b"%016d" % number).cut()
    assert node.publishers.forgotten == 17
    again = raw(net, 1001, "publisher", batch("t", 0, retry=True), life=b"v" * 16).last
    assert isinstance(again, Receipt)
    assert again.first == 0


def test_without_echo_only_a_users_own_messages_are_left_out() -> None:
    net, _ = bounded()
    life = b"v" * 16
    mute = raw(net, 1001, "session", subscribe("t", echo=False), life=life)
    raw(net, 1001, "publisher", batch("t", 0), life=life)
    raw(net, 1002, "publisher", batch("t", 0), life=life)
    assert [entry.first for entry in entries(mute)] == [1]
