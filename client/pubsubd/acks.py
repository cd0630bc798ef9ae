"""Acknowledgements of a named session: those that were sent, and those that are due. Pure.

An acknowledgement says that the session needs nothing before a position again. Acknowledgements never go back.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from pubsubd.errors import CursorExpired
from pubsubd.messages import Message
from pubsubd_protocol.attach import LOSES_HISTORY
from pubsubd_protocol.errors import InvalidPosition
from pubsubd_protocol.frames import Ack
from pubsubd_protocol.positions import Epoch, Position

REMEMBERED_EPOCHS = 64
"""Epochs remembered for each node. Messages of older epochs cannot be acknowledged: they come again after a crash."""


class Acks:
    """Acknowledges settled messages; with `manual`, only those that the application acknowledged."""

    def __init__(self, *, manual: bool) -> None:
        self.manual = manual
        self._sent: dict[str, Position] = {}
        self._acknowledged: dict[str, Position] = {}
        self._latest: dict[str, tuple[str, int]] = {}
        # By node: epochs in which messages were handed out, oldest first, each with the offset behind the last message.
        self._handed: dict[str, dict[str, int]] = {}
        # Nodes of which earlier epochs are no longer remembered.
        self._forgetful: set[str] = set()
        self._resumed = False
        self._stood: dict[str, Position] = {}
        # By node: the epoch of the last loss of history with which the application has dealt.
        self._noticed: dict[str, Epoch] = {}

    def stands(self, positions: Mapping[str, Position], *, resumed: bool = False) -> None:
        """Take the positions that the broker has on record as acknowledged, when the session opens.

        `resumed`: the broker knew the name, so earlier lives of the session may have handed messages out.
        """
        self._resumed = resumed
        self._sent.update(positions)
        self._stood.update(positions)

    def handed(self, node: str, epoch: str, first: int, last: int) -> None:
        """Manual only: the application has the messages of `node` from offset `first` to `last` now."""
        handed = self._handed.setdefault(node, {})
        handed[epoch] = last + 1
        if len(handed) > REMEMBERED_EPOCHS:
            del handed[next(iter(handed))]
            self._forgetful.add(node)
        if node not in self._latest:
            # The application is done with all messages before these.
            self._acknowledged[node] = Position(Epoch(bytes.fromhex(epoch)), first)
        self._latest[node] = (epoch, last)

    def acknowledge(self, message: Message) -> None:
        """Manual only: the application needs nothing up to and including `message` again.

        A message before the acknowledged position changes nothing. A message of a forgotten epoch changes nothing.
        Raises `InvalidPosition` for a message that this subscription did not hand out.
        """
        node = message.node
        handed = self._handed.get(node, {})
        behind = handed.get(message.epoch)
        if behind is None:
            if node in self._forgetful or self._is_below(message):
                return
            raise _foreign(message)
        if message.offset >= behind:
            raise _foreign(message)
        held = self._acknowledged[node]
        order = [*handed]
        rank = (order.index(message.epoch), message.offset + 1)
        if rank > (_index(order, held.epoch.hex()), held.offset):
            self._acknowledged[node] = Position(_epoch(message), message.offset + 1)
        if self._latest.get(node) == (message.epoch, message.offset):
            del self._latest[node]

    def _is_below(self, message: Message) -> bool:
        """Whether an earlier life of the session acknowledged `message`: it lies before the session's first position.

        For a message of another epoch the answer is yes if the session was resumed. A wrong yes does no harm:
        messages that are not acknowledged come again.
        """
        stood = self._stood.get(message.node)
        if stood is None:
            return False
        if stood.epoch != _epoch(message):
            return self._resumed
        return message.offset < stood.offset

    def resumes(self, settled: Mapping[str, Position]) -> dict[str, Position]:
        """The acknowledgements of a session that opens again. All are due: those sent before may not have arrived."""
        self._sent.clear()
        return {node: self._reached(node, position) for node, position in settled.items()}

    def passed(self, gap: CursorExpired) -> None:
        """Note that the application dealt with `gap`. The broker gets an acknowledgement even if the position stays."""
        self._sent.pop(gap.node, None)
        if gap.reason in LOSES_HISTORY:
            self._noticed[gap.node] = Epoch(bytes.fromhex(gap.epoch))

    def due(
        self, settled: Mapping[str, Position], known: Container[str], life: bytes | None
    ) -> list[Ack]:
        """The acknowledgements to send now, at most one for each node.

        Only for nodes in `known`: a restarted broker may not have met the others yet. `life`: the broker's own epoch;
        it sets `noticed`, for brokers that do not know the field `loss`.
        """
        acks = []
        for node, position in settled.items():
            position = self._reached(node, position)
            if node in known and self._sent.get(node) != position:
                self._sent[node] = position
                noticed = node in self._noticed and self._noticed[node] == life
                loss = self._noticed.get(node)
                acks.append(Ack(node, position, noticed=noticed, loss=loss))
        return acks

    def _reached(self, node: str, position: Position) -> Position:
        if self.manual and node in self._latest:
            # The application holds a message of this node and did not acknowledge it.
            return self._acknowledged[node]
        return position


def _index(epochs: list[str], epoch: str) -> int:
    return epochs.index(epoch) if epoch in epochs else -1


def _epoch(message: Message) -> Epoch:
    return Epoch(bytes.fromhex(message.epoch))


def _foreign(message: Message) -> InvalidPosition:
    return InvalidPosition(
        f"this subscription did not yield message {message.offset} of node {message.node} since it was opened: "
        "acknowledge only messages that it yields. Messages that were not acknowledged before come again"
    )
