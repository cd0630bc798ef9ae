"""The guarantee, as functions over what one application saw. Each refuses a history with a sentence.

A reader is one application's session over all of its reconnects; `at` is where it stands by what it was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.simulation.truth import Published, StreamTruth, Truth

from pubsubd_protocol.attach import Reason


class Violation(AssertionError):
    """The guarantee is broken. The text says which part of it, for whom, and where."""


Place = tuple[str, int]
"""Epoch in hex, and next offset."""


class Reader:
    """What one reader was told, checked as it comes.

    `wants` says which messages are for it. `born_ns`: when it was opened first.
    """

    def __init__(
        self,
        name: str,
        truth: Truth,
        wants: Callable[[Published], bool],
        born_ns: int,
        *,
        earliest: bool = False,
    ) -> None:
        self.name = name
        self.at: dict[str, Place] = {}
        self.remembered: dict[str, Place] = {}
        """Where its last life ended in streams whose producers remember it, after its broker forgot it."""
        self.messages = 0
        self.expiries: list[Reason] = []
        self._truth = truth
        self._wants = wants
        self.born_ns = born_ns
        self._earliest = earliest

    def stands(self, node: str, place: Place) -> None:
        """It is told for the first time where it stands in a stream (G1, at the beginning)."""
        stream = self._truth.streams[node]
        if node in self.at:
            self._refuse("G1", node, f"told {place} as a new stream, it stood at {self.at[node]}")
        self._check_exists("G1", node, place)
        if not self._earliest:
            owed = [
                offset
                for offset, message in enumerate(stream.messages[place[0]][: place[1]])
                if message.time_ns > self.born_ns and self._wants(message)
            ]
            kept = self.remembered.get(node)
            if kept is not None and kept[0] == place[0] and kept[1] < place[1]:
                self._refuse(
                    "G1",
                    node,
                    f"begins at {place}, its last life ended at {kept}, as the producer knew",
                )
            if owed:
                self._refuse(
                    "G1",
                    node,
                    f"begins at {place}, was owed {owed[0]}, published after it subscribed",
                )
        self.at[node] = place

    def message(self, node: str, epoch: str, offset: int, topic: str, payload: bytes) -> None:
        """It is handed a message (G1, G2, G3)."""
        at = self._stood("G1", node)
        if epoch != at[0]:
            self._refuse(
                "G1", node, f"message {offset} of epoch {epoch} without a word, it stood at {at}"
            )
        if offset < at[1]:
            self._refuse("G3", node, f"message {offset} again, it stood at {at}")
        self._check_exists("G2", node, (epoch, offset + 1))
        self._check_unwanted(node, epoch, range(at[1], offset))
        true = self._truth.streams[node].messages[epoch][offset]
        if (true.topic, true.payload) != (topic, payload):
            self._refuse(
                "G2", node, f"message {offset} is {topic} {payload!r}, published was {true}"
            )
        if not self._wants(true):
            self._refuse("G1", node, f"message {offset} is not for it: {true}")
        self.at[node] = (epoch, offset + 1)
        self.messages += 1

    def moves(self, node: str, place: Place) -> None:
        """It is told that nothing up to `place` is for it (G1)."""
        at = self._stood("G1", node)
        if place[0] != at[0] or place[1] < at[1]:
            self._refuse("G1", node, f"moved to {place} without a word, it stood at {at}")
        self._check_exists("G1", node, place)
        self._check_unwanted(node, place[0], range(at[1], place[1]))
        self.at[node] = place

    def expires(
        self, node: str, reason: Reason, missed: int | None, place: Place, oldest: int
    ) -> None:
        """It is told that it lost something (G4). `place` and `oldest`: what the producer held when it found so."""
        stream = self._truth.streams[node]
        if (place[0], oldest, place[1]) not in stream.views:
            self._refuse(
                "G4",
                node,
                f"expired by a ring that held {oldest}..{place[1]} of {place[0]}; it never did",
            )
        at = self.at.get(node)
        check_alarm(self._refuse, self._wants, node, at, reason, missed, place, oldest, stream)
        self.at[node] = place
        self.expiries.append(reason)

    def lost_own(self, node: str, place: Place, oldest: int) -> None:
        """A named session learns that its own node's stream began anew; its place stays, if the ring holds it."""
        at = self.at.get(node)
        if at != place and not (at is not None and at[0] == place[0] and at[1] < oldest):
            self._refuse("G4", node, f"state lost, to go on at {place}, it stood at {at}")
        self.at[node] = place
        self.expiries.append(Reason.STATE_LOST)

    def resumes(self, places: Iterable[tuple[str, Place]]) -> None:
        """A new life of the application, from what was kept for it: never further than it was."""
        for node, place in places:
            at = self.at.get(node)
            if at is None:
                self.stands(node, place)
            elif self._order(node, place) > self._order(node, at):
                self._refuse(
                    "G1", node, f"the next life begins at {place}, the last one ended at {at}"
                )
            else:
                self.at[node] = place

    def has_all(self, node: str) -> bool:
        """Whether it has come to the end of a stream."""
        stream = self._truth.streams[node]
        return self.at.get(node) == (stream.epoch, stream.next)

    def _order(self, node: str, place: Place) -> tuple[int, int]:
        return self._truth.streams[node].epochs.index(place[0]), place[1]

    def _stood(self, rule: str, node: str) -> Place:
        at = self.at.get(node)
        if at is None:
            self._refuse(rule, node, "something of a stream in which it was told no place")
            raise AssertionError
        return at

    def _check_exists(self, rule: str, node: str, place: Place) -> None:
        messages = self._truth.streams[node].messages.get(place[0])
        if messages is None or place[1] > len(messages):
            self._refuse(rule, node, f"{place} was never reached by that stream")

    def _check_unwanted(self, node: str, epoch: str, offsets: range) -> None:
        messages = self._truth.streams[node].messages[epoch]
        for offset in offsets:
            if self._wants(messages[offset]):
                self._refuse(
                    "G1", node, f"message {offset} of {epoch} is missing: {messages[offset]}"
                )

    def _refuse(self, rule: str, node: str, what: str) -> None:
        raise Violation(f"{rule}: {self.name} in the stream of {node}: {what}")


def check_alarm(
    refuse: Callable[[str, str, str], None],
    wants: Callable[[Published], bool],
    node: str,
    at: Place | None,
    reason: Reason,
    missed: int | None,
    place: Place,
    oldest: int,
    stream: StreamTruth,
) -> None:
    """G4: whether an expiry is true, judged by what the producer held when the gap was made."""
    if at is None:
        if reason is not Reason.UNSEEN or missed is not None:
            refuse("G4", node, f"{reason} with {missed} missed, though it was told no place there")
        if oldest == 0 and stream.epochs[0] == place[0]:
            refuse("G4", node, "unseen, though the ring still held the stream's first message")
        return
    if at[0] != place[0]:
        if reason is not Reason.STATE_LOST or missed is not None:
            refuse("G4", node, f"{reason} with {missed} missed across epochs, it stood at {at}")
        return
    if at[1] >= oldest:
        refuse(
            "G4",
            node,
            f"{reason}, though the ring held {oldest}..{place[1]} and it stood at {at[1]}",
        )
    # Notices that were merged leave out what was passed between them, which was for somebody else.
    skipped = sum(not wants(m) for m in stream.messages[place[0]][at[1] : place[1]])
    lost = range(place[1] - at[1] - skipped, place[1] - at[1] + 1)
    if reason is not Reason.OVERWRITTEN or missed not in lost:
        refuse(
            "G4",
            node,
            f"{reason} with {missed} missed, it stood at {at[1]} and goes on at {place[1]}",
        )
