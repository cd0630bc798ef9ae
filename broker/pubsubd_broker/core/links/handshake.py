"""Handshake: versions, roles, clusters, secrets, names. Each end of a new link has one.

Peers are asked in this order: do we speak one protocol, do we belong together, do you know our secret, is your name
in your certificate; and only then whether the name is free. So a stranger learns nothing about the other nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pubsubd_broker.core.access.admission import TurnedAway
from pubsubd_broker.core.access.local_users import LocalUsers
from pubsubd_broker.core.access.permissions import EVERYTHING, Rights
from pubsubd_broker.core.access.quota import Quota
from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.links.end import LinkEnd
from pubsubd_broker.core.links.naming import BrokerIdentity
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError
from pubsubd_protocol.frames import MAGIC, VERSION, Challenge, Frame, Hello, Proof, Welcome
from pubsubd_protocol.positions import is_node_name
from pubsubd_protocol.proof import Exchange


class AcceptedEnds(Protocol):
    """Makes the end of a connection that came in, once the other end is known."""

    def check_open(self, role: str) -> None:
        """Raises `ConnectionRefused` while the node serves no end of this role."""

    def check_consumer(self, name: str, epoch: bytes, now_ns: int) -> None:
        """Raises `ConnectionRefused` if a peer of this name may not pull the stream now."""

    def consumer(self, connection: Connection, name: str, epoch: bytes) -> LinkEnd: ...

    def publisher(
        self, connection: Connection, publisher_id: bytes, spoke_to: bytes | None, rights: Rights
    ) -> LinkEnd: ...

    def session(self, connection: Connection, client_id: bytes, rights: Rights) -> LinkEnd: ...

    def control(self, connection: Connection) -> LinkEnd: ...


class DialledEnds(Protocol):
    """Makes the end of a connection that this node dialled, once it is welcome there."""

    def producer(self, connection: Connection, target: Target, welcome: Welcome) -> LinkEnd | None:
        """For the node at `target`. None: another address has led to it already.

        Raises `ConnectionRefused` if no link to it may be had.
        """


class AcceptedHandshake:
    """The handshake of a connection that came in, where `peers` are served or where clients are."""

    def __init__(
        self,
        connection: Connection,
        turned_away: TurnedAway | None,
        peers: bool,
        *,
        identity: BrokerIdentity,
        users: LocalUsers,
        commands: Quota,
        ends: AcceptedEnds,
        welcome: Callable[[Rights], Welcome],
    ) -> None:
        """`turned_away`: the refusal that the other end is told. `commands`: the connections of commands that are open."""
        self.trusted = False
        self._connection = connection
        self._turned_away = turned_away
        self._peers = peers
        self._identity = identity
        self._users = users
        self._commands = commands
        self._ends = ends
        self._welcome = welcome
        # The greeting of a peer that has been challenged.
        self._hello: Hello | None = None

    def received(self, frame: Frame) -> LinkEnd | None:
        match frame:
            case Hello() if self._hello is None:
                return self._hear(frame)
            case Proof() if self._hello is not None:
                return self._check(self._hello, frame)
        raise _before_greeting(frame)

    def _hear(self, hello: Hello) -> LinkEnd | None:
        me = self._identity
        if hello.magic != MAGIC:
            raise ProtocolError("greeting", f"expected {MAGIC!r}, found {hello.magic!r}")
        if not hello.lowest <= VERSION <= hello.highest:
            spoken = f"{hello.lowest}..{hello.highest}"
            raise ConnectionRefused(
                "version",
                f"this broker speaks version {VERSION} of the protocol, the other end {spoken}",
            )
        if self._turned_away is not None and not self._is_operator(hello, self._turned_away):
            raise ConnectionRefused(self._turned_away.code, self._turned_away.detail)
        if (hello.role == "peer") != self._peers:
            raise ConnectionRefused(
                "role",
                f"a {hello.role} is not served here: peers dial TCP, clients the Unix socket",
            )
        if hello.role != "peer":
            return self._welcome_client(hello)
        if not is_node_name(hello.name):
            raise ProtocolError("greeting", f"{hello.name!r} is not a node name")
        _check_cluster(me, hello.name, hello.cluster)
        if me.secret is None:
            return self._welcome_consumer(hello)
        if hello.nonce is None:
            raise ConnectionRefused(
                "secret",
                f"{me.node} asks for the secret of cluster {me.cluster}, and {hello.name} has none: "
                "give it --cluster-secret-file",
            )
        self._hello = hello
        self._connection.send(Challenge(me.node, me.epoch, self._connection.remote.nonce))
        return None

    def _check(self, hello: Hello, proof: Proof) -> LinkEnd:
        me, remote = self._identity, self._connection.remote
        assert me.secret is not None
        assert hello.nonce is not None
        exchange = Exchange(
            me.cluster,
            hello.name,
            hello.sender_id,
            hello.nonce,
            me.node,
            me.epoch,
            remote.nonce,
            _binding(remote),
        )
        if not exchange.is_proved(me.secret, "consumer", proof.proof):
            raise _not_proved(hello.name, me)
        self._connection.send(Proof(exchange.proof(me.secret, "producer")))
        return self._welcome_consumer(hello)

    def _welcome_consumer(self, hello: Hello) -> LinkEnd:
        connection = self._connection
        _check_certificate(hello.name, connection.remote)
        self.trusted = True
        self._ends.check_open(hello.role)
        self._ends.check_consumer(hello.name, hello.sender_id, connection.opened_ns)
        connection.send(self._welcome(EVERYTHING))
        return self._ends.consumer(connection, hello.name, hello.sender_id)

    def _welcome_client(self, hello: Hello) -> LinkEnd:
        connection, users = self._connection, self._users
        self.trusted = True
        self._ends.check_open(hello.role)
        if hello.role == "control":
            self._check_commands()
        rights = users.rights_of(connection.remote)
        client_id = users.client_id(connection.remote, hello.sender_id)
        connection.send(self._welcome(rights))
        match hello.role:
            case "publisher":
                return self._ends.publisher(connection, client_id, hello.spoke_to, rights)
            case "session":
                return self._ends.session(connection, client_id, rights)
            case _:
                return self._ends.control(connection)

    def _check_commands(self) -> None:
        claimant = self._connection.claimant
        if not self._commands.change(claimant, 0, 1):
            raise ConnectionRefused(
                "too_many_commands",
                f"connected commands: {self._commands.taken(claimant)}",
            )

    def _is_operator(self, hello: Hello, turned_away: TurnedAway) -> bool:
        """Whether it comes in all the same: an operator of a broker that is full has to."""
        return hello.role == "control" and turned_away.code.startswith("too_many")


class DialledHandshake:
    """The handshake of a node with the producer that it has dialled."""

    def __init__(
        self, connection: Connection, target: Target, *, identity: BrokerIdentity, ends: DialledEnds
    ) -> None:
        self._connection = connection
        self._target = target
        self._identity = identity
        self._ends = ends
        self._exchange: Exchange | None = None
        self._proved = False
        self._nonce = connection.remote.nonce if identity.secret is not None else None
        connection.send(
            Hello(
                MAGIC,
                VERSION,
                VERSION,
                "peer",
                identity.node,
                identity.epoch,
                cluster=identity.cluster,
                nonce=self._nonce,
            )
        )

    @property
    def trusted(self) -> bool:
        """False while a secret is asked for and not proved: a stranger may answer here."""
        return self._identity.secret is None or self._proved

    def received(self, frame: Frame) -> LinkEnd | None:
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
        me = self._identity
        if me.secret is None or self._nonce is None:
            raise ConnectionRefused(
                "secret",
                f"{challenge.node} asks for the secret of its cluster, and {me.node} has none: "
                "give it --cluster-secret-file",
            )
        self._exchange = Exchange(
            me.cluster,
            me.node,
            me.epoch,
            self._nonce,
            challenge.node,
            challenge.epoch,
            challenge.nonce,
            _binding(self._connection.remote),
        )
        self._connection.send(Proof(self._exchange.proof(me.secret, "consumer")))

    def _check(self, exchange: Exchange, proof: Proof) -> None:
        secret = self._identity.secret
        assert secret is not None
        if not exchange.is_proved(secret, "producer", proof.proof):
            raise _not_proved(exchange.producer, self._identity)
        self._proved = True

    def _welcomed(self, welcome: Welcome) -> LinkEnd | None:
        me, name = self._identity, welcome.node
        if welcome.version != VERSION:
            raise ProtocolError(
                "greeting", f"{name} chose version {welcome.version}, offered was {VERSION}"
            )
        _check_cluster(me, name, welcome.cluster)
        if not self.trusted:
            raise ConnectionRefused(
                "secret",
                f"{name} has not proved that it knows the secret of cluster {me.cluster}: "
                "give it --cluster-secret-file",
            )
        exchange = self._exchange
        if exchange is not None and (name, welcome.epoch) != (
            exchange.producer,
            exchange.producer_epoch,
        ):
            raise ProtocolError("greeting", f"{exchange.producer} proved, {name} welcomes")
        _check_certificate(name, self._connection.remote)
        self._target.node = name
        return self._ends.producer(self._connection, self._target, welcome)


def _before_greeting(frame: Frame) -> ProtocolError:
    return ProtocolError("unexpected_frame", f"{type(frame).__name__} before the greeting")


def _binding(remote: Remote) -> bytes:
    return remote.channel.binding if remote.channel is not None else b""


def _check_cluster(me: BrokerIdentity, name: str, cluster: str) -> None:
    if cluster != me.cluster:
        raise ConnectionRefused(
            "cluster",
            f"{name} belongs to cluster {cluster}, {me.node} to cluster {me.cluster}: "
            "give both the same --cluster, or take the address out",
        )


def _check_certificate(name: str, remote: Remote) -> None:
    if remote.channel is None:
        return
    if remote.channel.flaw:
        raise ConnectionRefused(
            "certificate", f"nothing is proved by {name}'s TLS connection: {remote.channel.flaw}"
        )
    if name not in remote.channel.names:
        names = ", ".join(sorted(remote.channel.names)[:8]) or "no node"
        raise ConnectionRefused(
            "certificate",
            f"{name} came with a certificate for {names}: a node's certificate has its --node name as a DNS name",
        )


def _not_proved(name: str, me: BrokerIdentity) -> ConnectionRefused:
    return ConnectionRefused(
        "secret",
        f"{name} and {me.node} do not have the same secret for cluster {me.cluster}: "
        "give both the same --cluster-secret-file",
    )
