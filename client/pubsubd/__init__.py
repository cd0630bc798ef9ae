"""The client SDK of pubsubd: publish to the broker on this host, and subscribe without a silent gap."""

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
    WrongEventLoop,
)
from pubsubd.health import NodeBack, NodeLost, State
from pubsubd.messages import Message
from pubsubd.receipts import Receipt, Receipts
from pubsubd.single_flight import single_flight
from pubsubd.subscription import Subscription
from pubsubd_protocol import __version__
from pubsubd_protocol.topics import matches

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
    "State",
    "Subscription",
    "WrongEventLoop",
    "__version__",
    "connect",
    "matches",
    "single_flight",
]
