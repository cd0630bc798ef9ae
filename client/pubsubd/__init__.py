"""The client SDK of pubsubd: publish to the broker on this host, and subscribe without a silent gap."""

import importlib
from typing import TYPE_CHECKING

from pubsubd.batch import Batch
from pubsubd.client import Client
from pubsubd.codecs import JSON, MSGPACK, RAW, Codec
from pubsubd.connecting import connect
from pubsubd.errors import (
    AlreadyIterating,
    BrokerUnavailable,
    ClientClosed,
    ConnectionRefused,
    CursorExpired,
    DecodeError,
    EncodeError,
    InvalidArgument,
    InvalidPosition,
    InvalidTopic,
    MessageTooLarge,
    NameInUse,
    ProtocolError,
    PublishRejected,
    PublishUnknown,
    PubSubError,
    Reason,
    ReentrantCall,
    WrongEventLoop,
)
from pubsubd.health import NodeBack, NodeLost, State
from pubsubd.messages import Message
from pubsubd.receipts import Receipt, Receipts
from pubsubd.single_flight import single_flight
from pubsubd.subscription import Subscription
from pubsubd_protocol import __version__
from pubsubd_protocol.topics import matches

if TYPE_CHECKING:
    from pubsubd import sync as sync

__all__ = [
    "JSON",
    "MSGPACK",
    "RAW",
    "AlreadyIterating",
    "Batch",
    "BrokerUnavailable",
    "Client",
    "ClientClosed",
    "Codec",
    "ConnectionRefused",
    "CursorExpired",
    "DecodeError",
    "EncodeError",
    "InvalidArgument",
    "InvalidPosition",
    "InvalidTopic",
    "Message",
    "MessageTooLarge",
    "NameInUse",
    "NodeBack",
    "NodeLost",
    "ProtocolError",
    "PubSubError",
    "PublishRejected",
    "PublishUnknown",
    "Reason",
    "Receipt",
    "Receipts",
    "ReentrantCall",
    "State",
    "Subscription",
    "WrongEventLoop",
    "__version__",
    "connect",
    "matches",
    "single_flight",
]


def __getattr__(name: str) -> object:
    """`pubsubd.sync` is loaded when it is first asked for."""
    if name == "sync":
        return importlib.import_module("pubsubd.sync")
    raise AttributeError(f"module 'pubsubd' has no attribute {name!r}")
