"""Who may come in, and as what: versions, roles, names.

Each function returns the end that a connection gets, or None when it has been refused or is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pubsubd_broker.core.client_ends import ControlEnd, PublisherEnd, SessionEnd
from pubsubd_broker.core.config import (
    MAX_CONNECTIONS,
    MAX_CONSUMERS,
    MAX_PRODUCERS,
    PUBLISH_WINDOW,
)
from pubsubd_broker.core.consumer_end import ConsumerEnd
from pubsubd_broker.core.naming import conflict
from pubsubd_broker.core.producer_end import ProducerEnd
from pubsubd_broker.core.recall import RecallEnd
from pubsubd_protocol.entries import MAX_BATCH_MESSAGES
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import MAGIC, VERSION, Hello, Welcome
from pubsubd_protocol.positions import is_node_name

if TYPE_CHECKING:
    from pubsubd_broker.core.connection import Connection, End
    from pubsubd_broker.core.dialling import Target
    from pubsubd_broker.core.node import Node


TOO_MANY_CONSUMERS: Final = (
    "too_many_consumers",
    f"{MAX_CONSUMERS} consumers are registered, that is the limit",
)


def greet(node: Node, connection: Connection, hello: Hello) -> End | None:
    """Somebody says hello: the end that serves it, or None and it has been refused."""
    if hello.magic != MAGIC:
        raise ProtocolError("greeting", f"expected {MAGIC!r}, found {hello.magic!r}")
    if not hello.lowest <= VERSION <= hello.highest:
        spoken = f"{hello.lowest}..{hello.highest}"
        connection.refuse(
            "version",
            f"this broker speaks version {VERSION} of the protocol, the other end {spoken}",
        )
    elif len(node.connections) > MAX_CONNECTIONS and hello.role != "control":
        connection.refuse(
            "too_many_connections", f"{MAX_CONNECTIONS} connections are open, that is the limit"
        )
    elif (hello.role == "peer") != connection.peers:
        connection.refuse(
            "role",
            f"a {hello.role} is not served here: peers dial TCP, clients the Unix socket",
        )
    elif node.recall is not None and hello.role != "control":
        connection.refuse("recovering", f"{node.name} asks its peers for its stream: try again")
    elif node.draining and hello.role != "control":
        connection.refuse("draining", f"{node.name} is stopping")
    elif hello.role == "peer":
        return _greet_consumer(node, connection, hello)
    else:
        return _greet_client(node, connection, hello)
    return None


def welcomed(node: Node, connection: Connection, target: Target, welcome: Welcome) -> End | None:
    """A producer answered the dial: the end that pulls its stream, or None if it is not to be used."""
    if welcome.version != VERSION:
        raise ProtocolError(
            "greeting", f"{welcome.node} chose version {welcome.version}, offered was {VERSION}"
        )
    target.node = welcome.node
    link = node.producers.get(welcome.node)
    clash = conflict(
        welcome.node,
        welcome.life,
        node.name,
        node.life,
        [link.life] if link is not None else [],
    )
    if clash is not None:
        code, detail = clash
        target.is_self = code == "self"
        connection.refuse(code, detail)
        return None
    if node.recall is not None:
        return RecallEnd(node, connection, target, node.recall)
    if link is not None:
        # A second address of a node whose stream is being pulled already.
        target.reached = True
        node.reports.target_failed(target, f"{welcome.node} is linked by another address")
        connection.close()
        return None
    if welcome.node not in node.replicas and len(node.replicas) >= MAX_PRODUCERS:
        node.reports.target_failed(
            target, f"{MAX_PRODUCERS} streams are known already, that is the limit"
        )
        connection.close()
        return None
    if welcome.max_frame > node.config.max_frame:
        connection.refuse(
            "frame_limit",
            f"{welcome.node} sends frames of up to {welcome.max_frame} bytes, {node.name} takes "
            f"{node.config.max_frame}: give both the same --max-frame",
        )
        return None
    end = node.producers[welcome.node] = ConsumerEnd(
        node, connection, target, welcome.node, welcome.life
    )
    return end


def _greet_consumer(node: Node, connection: Connection, hello: Hello) -> End | None:
    name = hello.name
    if not is_node_name(name):
        raise ProtocolError("greeting", f"{name!r} is no node name")
    clash = node.clash(name, hello.life)
    if clash is not None:
        connection.refuse(*clash)
        return None
    if not node.registry.admits(name, node.consumers.keys()):
        connection.refuse(*TOO_MANY_CONSUMERS)
        return None
    _welcome(node, connection)
    return ProducerEnd(node, connection, name, hello.life)


def _greet_client(node: Node, connection: Connection, hello: Hello) -> End:
    _welcome(node, connection)
    match hello.role:
        case "publisher":
            return PublisherEnd(node, connection, hello.life, hello.spoke_to)
        case "session":
            return SessionEnd(node, connection, hello.life)
        case _:
            return ControlEnd(node, connection)


def _welcome(node: Node, connection: Connection) -> None:
    config = node.config
    connection.send(
        Welcome(
            VERSION,
            node.name,
            node.life,
            config.max_message,
            config.max_frame_held,
            PUBLISH_WINDOW,
            min(MAX_BATCH_MESSAGES, config.ring_messages),
        )
    )
