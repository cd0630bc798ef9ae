"""Who may come in, and as what: versions, roles, clusters, secrets, names. One of these at each end of a new link.

Peers are asked in this order: do we speak one protocol, do we belong together, do you know our secret, is your name
in your certificate; and only then whether the name is free. So a stranger learns nothing about who is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pubsubd_broker.core.access.admission import TurnedAway
from pubsubd_broker.core.access.remote import Caller
from pubsubd_broker.core.limits import PUBLISH_WINDOW
from pubsubd_broker.core.links.client_ends import ControlEnd, PublisherEnd, SessionEnd
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.health import MS_NS
from pubsubd_broker.core.links.naming import conflict
from pubsubd_broker.core.links.peer_recovery import RecallEnd
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError
from pubsubd_protocol.frames import MAGIC, VERSION, Challenge, Frame, Hello, Proof, Welcome
from pubsubd_protocol.positions import is_node_name
from pubsubd_protocol.proof import Exchange

if TYPE_CHECKING:
    from pubsubd_broker.core.links.connection import Connection
    from pubsubd_broker.core.links.dial_targets import Target
    from pubsubd_broker.core.links.end import End
    from pubsubd_broker.core.node import Node


class Greeting(Protocol):
    """One end of a connection before it is known what it is for."""

    @property
    def trusted(self) -> bool:
        """Whether the other end has shown who it is, as far as it has to."""

    def received(self, frame: Frame) -> End | None:
        """Takes one frame; the end that the connection gets when that was the last one.

        Raises `ConnectionRefused` if it may not go on, `ProtocolError` for a frame that has no place here.
        """


class AcceptedGreeting:
    """Of somebody who came."""

    def __init__(self, node: Node, connection: Connection, turned_away: TurnedAway | None) -> None:
        self.trusted = False
        self._node = node
        self._connection = connection
        self._turned_away = turned_away
        # Of a peer that has been challenged.
        self._hello: Hello | None = None

    def received(self, frame: Frame) -> End | None:
        match frame:
            case Hello() if self._hello is None:
                return self._hear(frame)
            case Proof() if self._hello is not None:
                return self._check(self._hello, frame)
        raise _before_greeting(frame)

    def _hear(self, hello: Hello) -> End | None:
        node = self._node
        if hello.magic != MAGIC:
            raise ProtocolError("greeting", f"expected {MAGIC!r}, found {hello.magic!r}")
        if not hello.lowest <= VERSION <= hello.highest:
            spoken = f"{hello.lowest}..{hello.highest}"
            raise ConnectionRefused(
                "version",
                f"this broker speaks version {VERSION} of the protocol, the other end {spoken}",
            )
        if self._turned_away is not None and not self._is_operator(hello):
            raise ConnectionRefused(self._turned_away.code, self._turned_away.detail)
        if (hello.role == "peer") != self._connection.peers:
            raise ConnectionRefused(
                "role",
                f"a {hello.role} is not served here: peers dial TCP, clients the Unix socket",
            )
        if hello.role != "peer":
            return self._welcome_client(hello)
        if not is_node_name(hello.name):
            raise ProtocolError("greeting", f"{hello.name!r} is no node name")
        _check_cluster(node, hello.name, hello.cluster)
        if node.config.secret is None:
            return self._welcome_consumer(hello)
        if hello.nonce is None:
            raise ConnectionRefused(
                "secret",
                f"{node.name} asks for the secret of cluster {node.config.cluster}, and {hello.name} has none: "
                "give it --cluster-secret-file",
            )
        self._hello = hello
        self._connection.send(Challenge(node.name, node.life, self._connection.caller.nonce))
        return None

    def _check(self, hello: Hello, proof: Proof) -> End:
        node, caller = self._node, self._connection.caller
        assert node.config.secret is not None
        assert hello.nonce is not None
        exchange = Exchange(
            node.config.cluster,
            hello.name,
            hello.life,
            hello.nonce,
            node.name,
            node.life,
            caller.nonce,
            _binding(caller),
        )
        if not exchange.is_proved(node.config.secret, "consumer", proof.proof):
            raise _not_proved(hello.name, node)
        self._connection.send(Proof(exchange.proof(node.config.secret, "producer")))
        return self._welcome_consumer(hello)

    def _welcome_consumer(self, hello: Hello) -> End:
        node = self._node
        _check_certificate(hello.name, self._connection.caller)
        self.trusted = True
        self._check_open(hello)
        clash = node.clash(hello.name, hello.life)
        if clash is not None:
            raise ConnectionRefused(*clash)
        node.room_for_consumers.check(hello.name, self._connection.opened_ns)
        self._welcome()
        return ProducerEnd(node, self._connection, hello.name, hello.life)

    def _welcome_client(self, hello: Hello) -> End:
        self.trusted = True
        self._check_open(hello)
        if hello.role == "control":
            self._check_commands()
        self._connection.rights = self._node.config.rights_of(self._connection.caller)
        client_id = self._node.config.client_id(self._connection.caller, hello.life)
        self._welcome()
        match hello.role:
            case "publisher":
                return PublisherEnd(self._node, self._connection, client_id, hello.spoke_to)
            case "session":
                return SessionEnd(self._node, self._connection, client_id)
            case _:
                return ControlEnd(self._node, self._connection)

    def _check_open(self, hello: Hello) -> None:
        node = self._node
        if node.recall is not None and hello.role != "control":
            raise ConnectionRefused(
                "recovering", f"{node.name} asks its peers for its stream: try again"
            )
        if node.draining and hello.role != "control":
            raise ConnectionRefused("draining", f"{node.name} is stopping")

    def _check_commands(self) -> None:
        commands, claimant = self._node.admission.commands, self._connection.claimant
        if not commands.change(claimant, 0, 1):
            raise ConnectionRefused(
                "too_many_commands",
                f"of the commands that may be connected {commands.taken(claimant)}",
            )

    def _is_operator(self, hello: Hello) -> bool:
        """Whoever looks after a broker that is full has to get in."""
        assert self._turned_away is not None
        return hello.role == "control" and self._turned_away.code.startswith("too_many")

    def _welcome(self) -> None:
        config = self._node.config
        self._connection.send(
            Welcome(
                VERSION,
                self._node.name,
                self._node.life,
                config.max_message,
                config.max_frame_held,
                PUBLISH_WINDOW,
                min(config.limits.batch_messages, config.ring_messages),
                config.cluster,
                config.limits.batch_topics,
                config.limits.topic_bytes,
                self._connection.rights.publishable,
                config.heartbeat_ns // MS_NS,
                config.peer_timeout_ns // MS_NS,
            )
        )


class DialledGreeting:
    """Of a node towards the producer that it has dialled."""

    def __init__(self, node: Node, connection: Connection, target: Target) -> None:
        self._node = node
        self._connection = connection
        self._target = target
        self._exchange: Exchange | None = None
        self._proved = False
        nonce = connection.caller.nonce if node.config.secret is not None else None
        self._nonce = nonce
        connection.send(
            Hello(
                MAGIC,
                VERSION,
                VERSION,
                "peer",
                node.name,
                node.life,
                cluster=node.config.cluster,
                nonce=nonce,
            )
        )

    @property
    def trusted(self) -> bool:
        """A secret is asked for and not proved: whoever answers here may be anybody."""
        return self._node.config.secret is None or self._proved

    def received(self, frame: Frame) -> End | None:
        match frame:
            case Challenge() if self._exchange is None:
                self._prove(frame)
                return None
            case Proof() if self._exchange is not None and not self._proved:
                self._check(self._exchange, frame)
                return None
            case Welcome():
                return self._welcomed(frame)
        raise _before_greeting(frame)

    def _prove(self, challenge: Challenge) -> None:
        node, caller = self._node, self._connection.caller
        secret = node.config.secret
        if secret is None or self._nonce is None:
            raise ConnectionRefused(
                "secret",
                f"{challenge.node} asks for the secret of its cluster, and {node.name} has none: "
                "give it --cluster-secret-file",
            )
        self._exchange = Exchange(
            node.config.cluster,
            node.name,
            node.life,
            self._nonce,
            challenge.node,
            challenge.life,
            challenge.nonce,
            _binding(caller),
        )
        self._connection.send(Proof(self._exchange.proof(secret, "consumer")))

    def _check(self, exchange: Exchange, proof: Proof) -> None:
        secret = self._node.config.secret
        assert secret is not None
        if not exchange.is_proved(secret, "producer", proof.proof):
            raise _not_proved(exchange.producer, self._node)
        self._proved = True

    def _welcomed(self, welcome: Welcome) -> End | None:
        node, connection, target = self._node, self._connection, self._target
        name = welcome.node
        if welcome.version != VERSION:
            raise ProtocolError(
                "greeting", f"{name} chose version {welcome.version}, offered was {VERSION}"
            )
        _check_cluster(node, name, welcome.cluster)
        if not self.trusted:
            raise ConnectionRefused(
                "secret",
                f"{name} has not proved that it knows the secret of cluster {node.config.cluster}: "
                "give it --cluster-secret-file",
            )
        exchange = self._exchange
        if exchange is not None and (name, welcome.life) != (
            exchange.producer,
            exchange.producer_life,
        ):
            raise ProtocolError("greeting", f"{exchange.producer} proved, {name} welcomes")
        _check_certificate(name, connection.caller)
        target.node = name
        link = node.producers.get(name)
        clash = conflict(
            name, welcome.life, node.name, node.life, [link.life] if link is not None else []
        )
        if clash is not None:
            target.is_self = clash[0] == "self"
            raise ConnectionRefused(*clash)
        if node.recall is not None:
            return RecallEnd(node, connection, target, node.recall)
        if link is not None:
            # A second address of a node whose stream is being pulled already.
            target.reached = True
            error = f"{name} is linked by another address"
            if target.fails(error):
                node.reports.unreachable(target.label, error)
            connection.close()
            return None
        if welcome.max_frame > node.config.max_frame:
            raise ConnectionRefused(
                "frame_limit",
                f"{name} sends frames of up to {welcome.max_frame} bytes, {node.name} takes "
                f"{node.config.max_frame}: give both the same --max-frame",
            )
        node.room_for_producers.make(name, connection.opened_ns)
        end = node.producers[name] = ConsumerEnd(node, connection, target, name, welcome.life)
        return end


def _before_greeting(frame: Frame) -> ProtocolError:
    return ProtocolError("unexpected_frame", f"{type(frame).__name__} before the greeting")


def _binding(caller: Caller) -> bytes:
    return caller.channel.binding if caller.channel is not None else b""


def _check_cluster(node: Node, name: str, cluster: str) -> None:
    if cluster != node.config.cluster:
        raise ConnectionRefused(
            "cluster",
            f"{name} belongs to cluster {cluster}, {node.name} to cluster {node.config.cluster}: "
            "give both the same --cluster, or take the address out",
        )


def _check_certificate(name: str, caller: Caller) -> None:
    if caller.channel is None:
        return
    if caller.channel.flaw:
        raise ConnectionRefused(
            "certificate", f"nothing is proved by {name}'s TLS connection: {caller.channel.flaw}"
        )
    if name not in caller.channel.names:
        names = ", ".join(sorted(caller.channel.names)[:8]) or "nobody"
        raise ConnectionRefused(
            "certificate",
            f"{name} came with a certificate for {names}: a node's certificate has its --node name as a DNS name",
        )


def _not_proved(name: str, node: Node) -> ConnectionRefused:
    return ConnectionRefused(
        "secret",
        f"{name} and {node.name} do not have the same secret for cluster {node.config.cluster}: "
        "give both the same --cluster-secret-file",
    )
