"""Acknowledgements of a named session: those that were sent, and those that are due. Pure.

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

REMEMBERED_EPOCHS = 64
"""Epochs of each node. Messages of older epochs can't be acknowledged any more: they come again after a crash."""


class Acks:
    """Acknowledges what is settled; with `manual`, only as far as the application has said so."""

    def __init__(self, *, manual: bool) -> None:
        self.manual = manual
        self._sent: dict[str, Position] = {}
        self._acknowledged: dict[str, Position] = {}
        self._latest: dict[str, tuple[str, int]] = {}
        # By node: the epochs in which messages were handed out, in their order, each with the offset behind the last.
        self._handed: dict[str, dict[str, int]] = {}
        # Nodes of which earlier epochs are no longer remembered.
        self._forgetful: set[str] = set()
        self._resumed = False
        self._stood: dict[str, Position] = {}
        # The epoch of which the application knows that what was before is lost.
        self._noticed: dict[str, Epoch] = {}

    def stands(self, positions: Mapping[str, Position], *, resumed: bool = False) -> None:
        """The session opens; the broker names the positions that it holds to be acknowledged.

        `resumed`: it knew the name, so that earlier lives may have handed messages out.
        """
        self._resumed = resumed
        self._sent.update(positions)
        self._stood.update(positions)

    def handed(self, message: Message) -> None:
        """Manual only: the application has `message` now."""
        node = message.node
        handed = self._handed.setdefault(node, {})
        handed[message.epoch] = message.offset + 1
        if len(handed) > REMEMBERED_EPOCHS:
            del handed[next(iter(handed))]
            self._forgetful.add(node)
        if node not in self._latest:
            # All messages before it are done with.
            self._acknowledged[node] = Position(_epoch(message), message.offset)
        self._latest[node] = (message.epoch, message.offset)

    def acknowledge(self, message: Message) -> None:
        """Manual only: nothing up to and with `message` is needed again.

        A message below the acknowledged place changes nothing, and neither does one of an epoch that is no longer
        remembered. Raises `InvalidPosition` for a message that was not handed out here.
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
        """Whether it lies before where the session began: an earlier life has acknowledged it.

        Of an epoch in which nothing was handed out here an earlier life has it, or an earlier epoch would have been
        handed out again. That changes nothing: what is not acknowledged comes again.
        """
        stood = self._stood.get(message.node)
        if stood is None:
            return False
        if stood.epoch != _epoch(message):
            return self._resumed
        return message.offset < stood.offset

    def resumes(self, settled: Mapping[str, Position]) -> dict[str, Position]:
        """The acknowledgements of a session that opens again. All are due again: those sent may not have arrived."""
        self._sent.clear()
        return {node: self._reached(node, position) for node, position in settled.items()}

    def passed(self, gap: CursorExpired) -> None:
        """The application has dealt with `gap`: the broker is told so, also where reading goes on in the same place."""
        self._sent.pop(gap.node, None)
        if gap.reason in LOSES_HISTORY:
            self._noticed[gap.node] = Epoch(bytes.fromhex(gap.epoch))

    def due(
        self, settled: Mapping[str, Position], known: Container[str], life: bytes | None
    ) -> list[Ack]:
        """The acknowledgements to send now, at most one for each node.

        Only for nodes in `known`: a broker that was restarted may not have met the others again. `life`: the broker's own
        epoch, to which a loss belongs that it may have told in place; a broker that reads `loss` has no need of that.
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
            # The application has a message of this node that it has not acknowledged.
            return self._acknowledged[node]
        return position


def _index(epochs: list[str], epoch: str) -> int:
    return epochs.index(epoch) if epoch in epochs else -1


def _epoch(message: Message) -> Epoch:
    return Epoch(bytes.fromhex(message.epoch))


def _foreign(message: Message) -> InvalidPosition:
    return InvalidPosition(
        f"message {message.offset} of node {message.node} was not handed out by this subscription since it was opened: "
        "acknowledge the messages that it yields. What an earlier one of its name had and did not acknowledge comes again"
    )
