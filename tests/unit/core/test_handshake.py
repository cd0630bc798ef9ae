"""Peers are admitted by cluster, secret and certificate; an attacker in between gains nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber

from pubsubd_broker.core.access.remote import Channel, Remote
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.status import not_ready
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    Attach,
    Challenge,
    Frame,
    Hello,
    Proof,
    Refused,
    Welcome,
)
from pubsubd_protocol.positions import Epoch
from pubsubd_protocol.proof import NONCE_BYTES, Exchange

SECRET = b"sixteen bytes or more"
OTHER = b"another secret, as long"
NONCE = bytes(range(NONCE_BYTES))


def pair(of_a: dict[str, Any], of_b: dict[str, Any], net: Net | None = None) -> Net:
    """`b` dials `a`, and `a` dials `b`."""
    net = net or Net()
    net.start("a", peers=["b"], **of_a)
    net.start("b", peers=["a"], **of_b)
    net.run()
    net.advance(1)
    return net


def is_linked(net: Net) -> bool:
    return net.linked("a", "b") and net.linked("b", "a")


def errors(net: Net) -> list[str]:
    """The error that each node has for the other's address."""
    return [str(net.nodes[name].targets[0].error) for name in ("a", "b")]


def test_two_that_have_the_same_secret_link_and_deliver() -> None:
    net = pair({"secret": SECRET}, {"secret": SECRET})
    assert is_linked(net)
    reader = Subscriber(net, "b")
    Publisher(net, "a").publish("x")
    net.run()
    assert len(reader.of_node("a")) == 1


@pytest.mark.parametrize(
    ("of_a", "of_b", "saying"),
    [
        (SECRET, OTHER, "do not have the same secret for cluster default"),
        (SECRET, None, "--cluster-secret-file"),
        (None, SECRET, "--cluster-secret-file"),
    ],
)
def test_two_that_do_not_share_a_secret_refuse_each_other_and_say_so(
    of_a: bytes | None, of_b: bytes | None, saying: str
) -> None:
    net = pair({"secret": of_a}, {"secret": of_b})
    assert not net.linked("a", "b")
    assert not net.linked("b", "a")
    for name, error in zip("ab", errors(net), strict=True):
        assert saying in error
        assert not net.nodes[name].peers.replicas
        assert not net.nodes[name].peers.consumers
    refused = [net.nodes[name].events.counters.connections_refused["secret"] for name in "ab"]
    assert any(refused)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_two_clusters_refuse_each_other_by_name(secret: bytes | None) -> None:
    net = pair({"cluster": "blue", "secret": secret}, {"cluster": "green", "secret": secret})
    assert not net.linked("a", "b")
    for error in errors(net):
        assert "cluster blue" in error
        assert "cluster green" in error
    assert net.nodes["a"].events.counters.connections_refused["cluster"] > 0


def test_a_node_that_dials_itself_is_recognised_behind_the_secret() -> None:
    net = Net()
    node = net.start("a", peers=["a"], secret=SECRET)
    net.run()
    net.advance(1)
    assert node.targets[0].is_self


def test_the_secret_is_in_nothing_that_is_sent_or_shown() -> None:
    net = Net()
    config = Config("a", secret=SECRET)
    assert SECRET.decode() not in repr(config)
    net.start("a", secret=SECRET)
    peer = Dialler(net)
    peer.prove()
    said = b"".join(repr(frame).encode() for frame in peer.frames)
    assert SECRET not in said


class Dialler(RawClient):
    """A dialler that calls itself `b`, and goes through the handshake with `a` by hand."""

    def __init__(
        self, net: Net, *, remote: Remote | None = None, hello: Hello | None = None
    ) -> None:
        super().__init__(net, "a", "peer", greets=False, remote=remote)
        self.hello = hello or Hello(MAGIC, VERSION, VERSION, "peer", "b", self.life, nonce=NONCE)
        self.send(self.hello)

    def exchange(self, **changes: Any) -> Exchange:
        """The channel of an honest proof, with `changes`."""
        (challenge,) = self.of(Challenge)
        assert self.hello.nonce is not None
        channel = self.connection.remote.channel
        honest = Exchange(
            "default",
            "b",
            self.life,
            self.hello.nonce,
            challenge.node,
            challenge.epoch,
            challenge.nonce,
            channel.binding if channel is not None else b"",
        )
        return dataclasses.replace(honest, **changes)

    def prove(self, **changes: Any) -> None:
        self.send(Proof(self.exchange(**changes).proof(SECRET, "consumer")))


def dialler(**options: Any) -> Dialler:
    net = Net()
    net.start("a", secret=SECRET)
    return Dialler(net, **options)


def test_an_honest_dialler_is_given_the_other_ends_proof_and_welcomed() -> None:
    peer = dialler()
    peer.prove()
    (proof,) = peer.of(Proof)
    assert peer.exchange().is_proved(SECRET, "producer", proof.proof)
    assert [type(frame) for frame in peer.frames] == [Challenge, Proof, Welcome]
    peer.send(Attach(Remembered(waiting=False)))
    assert peer.refusal is None


@pytest.mark.parametrize(
    "changes",
    [
        {"consumer": "c"},
        {"producer": "z"},
        {"cluster": "blue"},
        {"consumer_epoch": bytes(16)},
        {"producer_epoch": Epoch(bytes(16))},
        {"consumer_nonce": bytes(NONCE_BYTES)},
        {"producer_nonce": bytes(NONCE_BYTES)},
        {"binding": b"another channel"},
    ],
)
def test_a_proof_is_for_these_two_on_this_connection_alone(changes: dict[str, Any]) -> None:
    peer = dialler()
    peer.prove(**changes)
    assert peer.refusal == "secret"
    assert not peer.of(Proof), "a peer without a proof gets no material to guess the secret"
    assert not peer.of(Welcome)


def test_fields_can_not_be_shifted_into_one_another() -> None:
    peer = dialler()
    honest = peer.exchange()
    shifted = dataclasses.replace(honest, cluster="defaultb", consumer="")
    assert shifted.proof(SECRET, "consumer") != honest.proof(SECRET, "consumer")


def test_an_overheard_proof_is_invalid_on_another_connection() -> None:
    net = Net()
    net.start("a", secret=SECRET)
    honest = Dialler(net)
    overheard = Proof(honest.exchange().proof(SECRET, "consumer"))
    thief = Dialler(net, hello=honest.hello)
    thief.send(overheard)
    assert thief.refusal == "secret"


def test_a_producers_proof_is_none_of_a_consumer() -> None:
    peer = dialler()
    peer.send(Proof(peer.exchange().proof(SECRET, "producer")))
    assert peer.refusal == "secret"


@pytest.mark.parametrize(
    "frame", [Attach(Remembered(waiting=False)), Hello(MAGIC, 1, 1, "peer", "b", bytes(16))]
)
def test_before_the_proof_nothing_else_is_taken(frame: Frame) -> None:
    peer = dialler()
    peer.send(frame)
    assert peer.refusal == "protocol"
    assert not peer.net.nodes["a"].peers.consumers


def test_a_proof_that_nobody_asked_for_is_a_violation() -> None:
    net = Net()
    net.start("a", secret=SECRET)
    peer = RawClient(net, "a", "peer", greets=False)
    peer.send(Proof(bytes(32)))
    assert peer.refusal == "protocol"


def test_a_silent_challenged_connection_is_closed_in_time() -> None:
    peer = dialler()
    peer.net.advance(6)
    assert peer.refusal == "handshake_timeout"


def test_a_stranger_learns_nothing_about_who_is_here() -> None:
    net = Net()
    a = net.start("a", secret=SECRET)
    net.start("b", peers=["a"], secret=SECRET)
    net.run()
    a.drain()
    stranger = Dialler(net)
    stranger.send(Proof(bytes(32)))
    assert stranger.refusal == "secret", "not that the name is taken, nor that it is stopping"


class Impostor:
    """Stands at the address of `a`, and answers `b` by frames of its own."""

    def __init__(self, **of_b: Any) -> None:
        self.net = Net()
        self.net.start("a")
        self.node = self.net.start("b", peers=["a"], **of_b)
        self.net.mute.add("a")
        self.net.run()
        self.net.mute.clear()
        self.pipe = self.net.link("b", "a")
        # No node hears the words of `b`: the real `a` would answer them.
        self.pipe.swallows = {self.pipe.ends[0]}
        self.served = self.pipe.ends[1]

    def says(self, *frames: Frame) -> None:
        for frame in frames:
            self.served.send(frame)
            self.net.run()

    @property
    def error(self) -> str:
        return str(self.node.targets[0].error)


WELCOME = Welcome(1, "a", Epoch(bytes(16)), 2**20, 2**24, 1)


def test_a_peer_that_welcomes_without_a_proof_is_not_read_from() -> None:
    impostor = Impostor(secret=SECRET)
    impostor.says(WELCOME)
    assert "has not proved" in impostor.error
    assert not impostor.node.peers.producers


def test_a_peer_with_a_wrong_proof_is_not_read_from() -> None:
    impostor = Impostor(secret=SECRET)
    impostor.says(Challenge("a", Epoch(bytes(16)), NONCE), Proof(bytes(32)), WELCOME)
    assert "do not have the same secret" in impostor.error
    assert not impostor.node.peers.producers


def test_the_diallers_own_proof_sent_back_is_none() -> None:
    impostor = Impostor(secret=SECRET)
    impostor.says(Challenge("a", Epoch(bytes(16)), NONCE))
    dialled = impostor.pipe.ends[0]
    exchange = dialled._handshake._exchange  # type: ignore[union-attr]
    impostor.says(Proof(exchange.proof(SECRET, "consumer")), WELCOME)
    assert not impostor.node.peers.producers


def test_one_proves_and_another_welcomes_is_a_violation() -> None:
    impostor = Impostor(secret=SECRET)
    impostor.says(Challenge("c", Epoch(bytes(16)), NONCE))
    exchange = impostor.pipe.ends[0]._handshake._exchange  # type: ignore[union-attr]
    impostor.says(Proof(exchange.proof(SECRET, "producer")), WELCOME)
    assert "c proved, a welcomes" in impostor.error
    assert not impostor.node.peers.producers


@pytest.mark.parametrize("secret", [None, SECRET])
def test_only_a_trusted_end_can_declare_an_address_ones_own(
    secret: bytes | None,
) -> None:
    impostor = Impostor(secret=secret)
    impostor.says(Refused("self", "this is b itself"))
    assert impostor.node.targets[0].is_self == (secret is None)


def test_an_address_where_a_node_met_itself_is_dialled_again() -> None:
    """An attacker in between can pass this node's frames back to it, and be gone the next moment."""
    impostor = Impostor(secret=None)
    impostor.says(Refused("self", "this is b itself"))
    net, (target,) = impostor.net, impostor.node.targets
    net.advance(58)
    assert target.is_self
    assert not_ready(impostor.node) == []
    assert not net.linked("b", "a")
    net.advance(4)
    assert net.linked("b", "a")
    assert not target.is_self


def test_a_stream_is_given_up_only_on_the_word_of_who_is_trusted() -> None:
    impostor = Impostor(secret=SECRET, recover_from_peers=True)
    recovery = impostor.node.recovery
    impostor.says(Refused("recovering", "so is a"))
    assert recovery is not None
    assert impostor.node.recovery is recovery, "it goes on asking until its time is over"


def with_certificates(**names: set[str]) -> Net:
    net = Net()
    net.certificates = {node: frozenset(each) for node, each in names.items()}
    return net


def test_each_node_is_in_its_certificate() -> None:
    assert is_linked(pair({}, {}, with_certificates(a={"a"}, b={"b", "b.internal"})))


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_node_missing_in_its_certificate_is_refused_by_both(
    secret: bytes | None,
) -> None:
    net = pair(
        {"secret": secret}, {"secret": secret}, with_certificates(a={"a"}, b={"c", "B", "x.b"})
    )
    assert not net.linked("a", "b")
    assert not net.linked("b", "a")
    for error in errors(net):
        assert "b came with a certificate for B, c, x.b" in error


def test_a_secret_is_proved_over_the_channel_on_which_it_is_said() -> None:
    """An attacker that ends TLS on both sides has two channels, and cannot pass the proof on."""
    net = Net()
    net.start("a", secret=SECRET)
    to_a = Remote("b", host="h", nonce=NONCE, channel=Channel(frozenset({"b"}), b"between and a"))
    between = Dialler(net, remote=to_a)
    between.prove(binding=b"b and between")
    assert between.refusal == "secret"
    honest = Dialler(net, remote=dataclasses.replace(to_a, host="i", nonce=bytes(32)))
    honest.prove()
    assert honest.refusal is None


def test_a_name_that_is_in_use_is_told_only_to_who_belongs_here() -> None:
    net = Net()
    net.start("a", secret=SECRET)
    net.start("b", peers=["a"], secret=SECRET)
    net.run()
    peer = Dialler(net)
    peer.prove()
    assert peer.refusal == "name_in_use"
