"""What a named session has acknowledged, and what it may acknowledge now. Pure.

An acknowledgement says that nothing before a position is needed again. It never goes back.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from pubsubd.errors import CursorExpired
from pubsubd.messages import Message
from pubsubd_protocol.attach import LOSES_HISTORY
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
        self._latest: dict[str, tuple[str, int]] = {}
        self._epochs: dict[str, list[str]] = {}
        # The epoch of which the application knows that what was before is lost.
        self._noticed: dict[str, Epoch] = {}

    def stands(self, positions: Mapping[str, Position]) -> None:
        """What the broker holds to be acknowledged when the session opens."""
        self._sent.update(positions)

    def handed(self, message: Message) -> None:
        """Manual only: the application has `message` now."""
        epochs = self._epochs.setdefault(message.node, [])
        if message.epoch not in epochs:
            epochs.append(message.epoch)
            del epochs[:-REMEMBERED_EPOCHS]
        if message.node not in self._latest:
            # Whatever came before it is done with.
            epoch = Epoch(bytes.fromhex(message.epoch))
            self._acknowledged[message.node] = Position(epoch, message.offset)
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

    def resumes(self, settled: Mapping[str, Position]) -> dict[str, Position]:
        """What the session says as it opens again. All is due again: what was sent may not have arrived."""
        self._sent.clear()
        return {node: self._reached(node, position) for node, position in settled.items()}

    def passed(self, gap: CursorExpired) -> None:
        """The application has dealt with it: that is said too, where it goes on in the same place."""
        self._sent.pop(gap.node, None)
        if gap.reason in LOSES_HISTORY:
            self._noticed[gap.node] = Epoch(bytes.fromhex(gap.epoch))

    def due(self, settled: Mapping[str, Position], known: Container[str]) -> list[Ack]:
        """The acknowledgements to send now, at most one for each node.

        Only for nodes in `known`: a broker that was restarted may not have met the others again.
        """
        acks = []
        for node, position in settled.items():
            position = self._reached(node, position)
            if node in known and self._sent.get(node) != position:
                self._sent[node] = position
                noticed = self._noticed.get(node) == position.epoch
                acks.append(Ack(node, position, noticed=noticed))
        return acks

    def _reached(self, node: str, position: Position) -> Position:
        if self.manual and node in self._latest:
            # The application has a message of this node that it has not acknowledged.
            return self._acknowledged[node]
        return position


def _index(epochs: list[str], epoch: str) -> int:
    return epochs.index(epoch) if epoch in epochs else -1
