"""What a named session has acknowledged, and what it may acknowledge now. Pure.

An acknowledgement says that nothing before a position is needed again. It never goes back.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from pubsubd.messages import Message
from pubsubd_protocol.errors import InvalidPosition
from pubsubd_protocol.frames import Ack
from pubsubd_protocol.positions import Epoch, Position

REMEMBERED_EPOCHS = 8


class Acks:
    """Acknowledges what is settled; with `manual`, only as far as the application has said so."""

    def __init__(self, *, manual: bool) -> None:
        self.manual = manual
        self._sent: dict[str, Position] = {}
        self._acknowledged: dict[str, Position] = {}
        self._began: dict[str, Position] = {}
        self._latest: dict[str, tuple[str, int]] = {}
        self._epochs: dict[str, list[str]] = {}

    def stands(self, positions: Mapping[str, Position]) -> None:
        """What the broker holds to be acknowledged when the session opens."""
        self._sent.update(positions)

    def handed(self, message: Message) -> None:
        """Manual only: the application has `message` now."""
        epochs = self._epochs.setdefault(message.node, [])
        if message.epoch not in epochs:
            epochs.append(message.epoch)
            del epochs[:-REMEMBERED_EPOCHS]
        if message.node not in self._began:
            epoch = Epoch(bytes.fromhex(message.epoch))
            self._began[message.node] = Position(epoch, message.offset)
        self._latest[message.node] = (message.epoch, message.offset)

    def acknowledge(self, message: Message) -> None:
        """Manual only: nothing up to and with `message` is needed again.

        One that is older than an acknowledged one changes nothing.
        """
        node = message.node
        epochs = self._epochs.get(node, [])
        if message.epoch not in epochs:
            raise InvalidPosition(f"message {message.offset} of node {node} came not from here")
        held = self._acknowledged.get(node)
        rank = (epochs.index(message.epoch), message.offset + 1)
        if held is None or rank > (_index(epochs, held.epoch.hex()), held.offset):
            epoch = Epoch(bytes.fromhex(message.epoch))
            self._acknowledged[node] = Position(epoch, message.offset + 1)
        if self._latest.get(node) == (message.epoch, message.offset):
            del self._latest[node]

    def forget_sent(self) -> None:
        """Everything is due again: what was sent may not have arrived."""
        self._sent.clear()

    def told_of_loss(self, node: str) -> None:
        """The application has dealt with a gap: that is said too, where it goes on in the same place."""
        self._sent.pop(node, None)

    def due(self, settled: Mapping[str, Position], known: Container[str]) -> list[Ack]:
        """The acknowledgements to send now, at most one for each node.

        Only for nodes in `known`: a broker that was restarted may not have met the others again.
        """
        acks = []
        for node, position in settled.items():
            if self.manual and node in self._latest:
                # The application has a message of this node that it has not acknowledged.
                position = self._acknowledged.get(node, self._began[node])
            if node in known and self._sent.get(node) != position:
                self._sent[node] = position
                acks.append(Ack(node, position))
        return acks


def _index(epochs: list[str], epoch: str) -> int:
    return epochs.index(epoch) if epoch in epochs else -1
