"""A cluster's secret: only its holders belong to the cluster, and it cannot be read or overheard."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.feeding import feed
from tests.integration.between import Between, Change, unchanged
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.cluster import Cluster
from tests.integration.commands import error_of, ok
from tests.integration.hostile import RawConnection
from tests.integration.relay import DIRECTIONS, Direction
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    address_of,
    payloads_to,
    subscribed,
    why_not_ready,
)
from tests.integration.waiting import wait_until

import pubsubd
from pubsubd_broker.core.config import Config
from pubsubd_broker.settings.for_core import config_of
from pubsubd_broker.settings.values import Settings
from pubsubd_broker.trust.peer_trust import load_peer_trust
from pubsubd_protocol.codec import decode
from pubsubd_protocol.frames import Attached, Challenge, Frame, Hello, Proof, Refused, Welcome
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Epoch

SECRET: Final = b"Five boxing wizards jump quickly"
OTHER: Final = b"Pack my box with a dozen liquor jugs"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    return written(tmp_path / "secret", SECRET)


def written(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def say(at: Broker, heard_at: Broker, what: str) -> None:
    """Messages of the one broker come out at the other."""

    async def said() -> None:
        async with (
            subscribed(heard_at, start="earliest") as subscription,
            pubsubd.connect(at.socket) as client,
        ):
            await client.publish("t", what)
            assert await payloads_to(subscription, what) == [what]

    asyncio.run(said())


def unreached(broker: Broker) -> dict[str, Any]:
    """The log line with the reason why `broker` has no link to its only peer, once it is not a refused connection."""

    def told() -> dict[str, Any] | None:
        lines = broker.logged("peer.unreachable")
        return next((line for line in lines if "refused" not in line["error"].lower()), None)

    line = wait_until(told, what=f"a reason why {broker.node} reaches no peer")
    assert line is not None
    return line


def assert_apart(*brokers: Broker) -> None:
    for broker in brokers:
        assert broker.metric("peer_connected") == broker.metric("consumer_connected") == 0
        assert not [line for line in broker.logs if line["event"].endswith(".attached")]
        assert broker.status()["consumers"] == []


def frames(data: bytes) -> list[Frame]:
    return [decode(view) for view in feed(FrameReader(2**26), data)]


def disguises(secret: bytes) -> list[bytes]:
    """The forms in which the secret could stand in a text."""
    return [secret, secret.hex().encode(), base64.b64encode(secret), secret[:16], secret[-16:]]


@pytest.fixture
def recorded(tmp_path: Path, secret: str) -> Iterator[Cluster]:
    """Two brokers that have met, and all frames between them since."""
    cluster = Cluster(tmp_path, 2, command=PUBSUBD, cluster_secret_file=secret, log_level="debug")
    for link in cluster.links("a"):
        link.record()
    with cluster:
        yield cluster


# Brokers with the secret.


def test_two_brokers_of_one_secret_link_and_it_is_never_seen(
    recorded: Cluster, secret: str
) -> None:
    a, b = recorded
    say(a, b, "from a")
    wire = b"".join(recorded.link("b", "a").recorded(way) for way in DIRECTIONS)
    kinds = [
        type(frame) for way in DIRECTIONS for frame in frames(recorded.link("b", "a").recorded(way))
    ]
    assert {Hello, Challenge, Proof, Welcome} <= set(kinds)
    assert kinds.count(Proof) == 2
    assert b"from a" in wire
    shown = [
        wire,
        b"".join(recorded.link("a", "b").recorded(way) for way in DIRECTIONS),
        json.dumps([*a.logs, *b.logs]).encode(),
        *(a.get(path) for path in ("/status.json", "/metrics")),
        ok("status", "--socket", a.socket).encode(),
        ok("config", "show", "--cluster-secret-file", secret).encode(),
        ok("config", "show", "--json", "--cluster-secret-file", secret).encode(),
        Path(f"/proc/{a.pid}/cmdline").read_bytes(),
        Path(f"/proc/{a.pid}/environ").read_bytes(),
    ]
    for text in shown:
        assert text
        assert not [each for each in disguises(SECRET) if each in text]


def test_no_object_of_the_broker_prints_the_secret(secret: str) -> None:
    settings = Settings(Config("a"), "s", cluster_secret_file=secret)
    trust = load_peer_trust(settings)
    assert trust.secret is not None
    assert trust.secret.value == SECRET
    for each in (settings, trust, config_of(settings, trust.secret.value, os.geteuid())):
        assert SECRET.decode() not in repr(each)


def test_an_editors_line_feed_is_not_part_of_the_secret(
    start_cluster: StartCluster, secret: str, tmp_path: Path
) -> None:
    edited = written(tmp_path / "edited", SECRET + b"\n")
    options = {"a": {"cluster_secret_file": secret}, "b": {"cluster_secret_file": edited}}
    a, b = start_cluster(2, per_node=options)
    say(b, a, "from b")


# Brokers without it.


def test_two_brokers_of_different_secrets_refuse_each_other(
    start_cluster: StartCluster, secret: str, tmp_path: Path
) -> None:
    options = {
        "a": {"cluster_secret_file": secret},
        "b": {"cluster_secret_file": written(tmp_path / "other", OTHER)},
    }
    cluster = start_cluster(2, wait_ready=False, per_node=options)
    for us, other in (("a", "b"), ("b", "a")):
        advice = (
            f"{us} and {other} do not have the same secret for cluster default: "
            "give both the same --cluster-secret-file"
        )
        broker = cluster[other]
        assert unreached(cluster[us])["error"] == f"{advice} (secret)"
        line = broker.wait_log("connection.refused", code="secret")
        assert line["detail"] == advice
        assert advice in why_not_ready(cluster[us])[0]
        assert broker.metric("connections_refused_total", reason="secret") >= 1
    assert_apart(*cluster)


def test_a_broker_without_the_secret_gets_no_link(start_cluster: StartCluster, secret: str) -> None:
    has, has_not = cluster = start_cluster(
        2, wait_ready=False, per_node={"a": {"cluster_secret_file": secret}}
    )
    asked = (
        "a asks for the secret of cluster default, and b has none: give it --cluster-secret-file"
    )
    assert unreached(has_not)["error"] == f"{asked} (secret)"
    assert asked in why_not_ready(has_not)[0]
    assert has.wait_log("connection.refused", detail=asked)["code"] == "secret"
    # And the reason at a: the other end welcomed it, and proved nothing.
    unproved = "b has not proved that it knows the secret of cluster default: give it --cluster-secret-file"
    assert unreached(has)["error"] == unproved
    assert unproved in why_not_ready(has)[0]
    assert has_not.wait_log("connection.refused", detail=unproved)["code"] == "secret"
    assert has.metric("connections_refused_total", reason="secret") >= 2
    assert_apart(*cluster)


def test_brokers_of_two_clusters_refuse_each_other_by_both_names(
    start_cluster: StartCluster, secret: str
) -> None:
    options = {"a": {"cluster": "red"}, "b": {"cluster": "blue"}}
    cluster = start_cluster(2, wait_ready=False, per_node=options, cluster_secret_file=secret)
    for broker in cluster:
        error = unreached(broker)["error"]
        assert "red" in error
        assert "blue" in error
        assert "--cluster" in error
        assert error in why_not_ready(broker)[0]
        assert broker.metric("connections_refused_total", reason="cluster") >= 1
    assert_apart(*cluster)


def test_a_refused_producer_has_an_origin_too(start_broker: StartBroker, secret: str) -> None:
    b = start_broker("b")
    a = start_broker("a", peers=[b.listen], cluster_secret_file=secret, log_repeat="500ms")
    line = a.wait_log("log.repeated", of="connection.refused", why="secret")
    assert line["origin"] == "address 127.0.0.1"


# Listeners that repeat a greeting.


def test_a_greeting_that_was_overheard_opens_no_door_again(recorded: Cluster, secret: str) -> None:
    a, b = recorded
    overheard = recorded.link("b", "a").recorded("to_target")
    assert [type(frame) for frame in frames(overheard)][:2] == [Hello, Proof]
    before = a.metric("connections_refused_total", reason="secret")
    for _ in range(3):
        with RawConnection(address_of(a)) as raw:
            raw.send(overheard)
            challenge, refused = raw.frames_until_end()
            assert isinstance(challenge, Challenge)
            assert isinstance(refused, Refused)
            assert refused.code == "secret"
    assert a.metric("connections_refused_total", reason="secret") == before + 3
    # The overheard broker is not cut off either.
    say(a, b, "still linked")
    assert not b.logged("peer.lost")


def test_an_overheard_answer_fits_no_second_question(
    recorded: Cluster, start_broker: StartBroker, secret: str
) -> None:
    overheard = iter(frames(recorded.link("b", "a").recorded("from_target")))

    def again(way: Direction, frame: Frame) -> Frame:
        return frame if way == "to_target" else next(overheard)

    with Between(address_of(recorded["a"]), again) as between:
        c = start_broker("c", peers=[between.endpoint], cluster_secret_file=secret)
        assert "do not have the same secret" in unreached(c)["error"]
        answered = [type(frame) for way, frame in between.passed if way == "from_target"]
        assert answered[0] is Challenge
        assert_apart(c)


# A man in the middle.


def test_a_man_in_the_middle_without_changes_is_a_wire(
    start_broker: StartBroker, secret: str
) -> None:
    a = start_broker("a", cluster_secret_file=secret)
    with Between(address_of(a), unchanged) as between:
        b = start_broker("b", peers=[between.endpoint], cluster_secret_file=secret)
        wait_until(b.ready, what="the link through a man in the middle")
        say(a, b, "from a")


def changing(kind: type[Any], field: str, value: object) -> Change:
    def change(way: Direction, frame: Frame) -> Frame:
        return replace(frame, **{field: value}) if isinstance(frame, kind) else frame

    return change


LIES: Final[dict[str, Change]] = {
    "that b is called c": changing(Hello, "name", "c"),
    "that b has another epoch": changing(Hello, "sender_id", bytes(16)),
    "that b drew another nonce": changing(Hello, "nonce", bytes(32)),
    "that a is called z": changing(Challenge, "node", "z"),
    "that a has another epoch": changing(Challenge, "epoch", Epoch(bytes(16))),
    "that a drew another nonce": changing(Challenge, "nonce", bytes(32)),
    "a proof of its own": changing(Proof, "proof", bytes(32)),
}
"""False facts that a man in the middle may want two brokers to believe."""


def test_a_proof_is_valid_only_for_its_own_greeting(start_broker: StartBroker, secret: str) -> None:
    a = start_broker("a", cluster_secret_file=secret)
    with ExitStack() as stack:
        liars = {lie: stack.enter_context(Between(address_of(a), LIES[lie])) for lie in LIES}
        endpoints = [liar.endpoint for liar in liars.values()]
        b = start_broker("b", peers=endpoints, cluster_secret_file=secret)
        for lie, liar in liars.items():
            line = b.wait_log("peer.unreachable", address=liar.endpoint)
            assert "do not have the same secret" in line["error"], lie
            assert Welcome not in {type(frame) for _, frame in liar.passed}, lie
        assert len(why_not_ready(b)) == len(LIES)
        assert a.metric("connections_refused_total", reason="secret") >= len(LIES)
        assert_apart(a, b)


def test_a_welcome_under_an_unproved_name_is_cut_off(
    start_broker: StartBroker, secret: str
) -> None:
    a = start_broker("a", cluster_secret_file=secret)
    with Between(address_of(a), changing(Welcome, "node", "z")) as between:
        b = start_broker("b", peers=[between.endpoint], cluster_secret_file=secret)
        assert "a proved, z welcomes" in unreached(b)["error"]
        assert Attached not in {type(frame) for _, frame in between.passed}
        assert_apart(a, b)


# Invalid secrets, and unsafe places.


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        (None, 0, "No such file or directory"),
        (b"", 0o600, "0 bytes are too easily guessed"),
        (b"Sphinx of black" + b"\n", 0o600, "15 bytes are too easily guessed"),
        (SECRET, 0o644, "mode 0644 lets others read or change it: chmod it to 0600"),
        (SECRET, 0o620, "mode 0620 lets others read or change it: chmod it to 0600"),
    ],
    ids=["none", "empty", "short", "readable", "writable"],
)
def test_a_file_without_a_secret_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None, mode: int, complaint: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        written(path, content, mode)
    line = error_of(*start(tmp_path), "--cluster-secret-file", str(path), code=2)
    assert f"secret file {path}: " in line
    assert complaint in line
    assert "Sphinx" not in line
    assert SECRET.decode() not in line


def start(folder: Path) -> Iterable[str]:
    """A broker without effect on others, should it start after all."""
    return "start", "--node", "a", "--no-http", "--socket", str(folder / "s")


# Brokers that may not listen.


def test_a_port_for_other_machines_needs_a_secret(tmp_path: Path) -> None:
    line = error_of(*start(tmp_path), "--listen", "0.0.0.0:0", code=2)
    assert "listen (from --listen): 0.0.0.0:0 takes peers from other machines" in line
    for way_out in ("--cluster-secret-file", "--tls-cert", "127.0.0.1", "--insecure"):
        assert way_out in line
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("known_by", ["secret", "nothing"])
def test_a_port_for_other_machines_opens_with_a_secret_or_option(
    start_broker: StartBroker, secret: str, known_by: str
) -> None:
    trust: dict[str, Any] = {"cluster_secret_file": secret} if known_by == "secret" else {}
    insecure = {} if trust else {"insecure": True}
    a = start_broker("a", listen="0.0.0.0:0", **insecure, **trust)
    assert a.listen.startswith("0.0.0.0:")
    b = start_broker("b", peers=[f"127.0.0.1:{address_of(a)[1]}"], **trust)
    wait_until(b.ready, what="the link")
    say(a, b, "from anywhere")
