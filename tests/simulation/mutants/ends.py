"""Bugs at the end of a recovered history: the loss of messages accepted beyond it is told wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from tests.simulation.mutants.attaching import _everywhere
from tests.simulation.mutants.mutant import Mutant, Patch, of_kind

import pubsubd_broker.core.journal.recovery as recovery
import pubsubd_broker.core.journal.whole_end as whole_end
import pubsubd_broker.core.links.peer_recovery as peer_recovery
import pubsubd_broker.core.sessions.bookmark as bookmark
import pubsubd_protocol.attach as attach
from pubsubd_broker.core.journal.whole_end import EndProof, Evidence, Found, RecoveredEnd
from pubsubd_broker.core.links.peer_recovery import RecoveryEnd
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.pacing import Pacing
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import Claim, Remembered, Verdict
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import Epoch, Lineage, Losses, Position, StreamView, place

Succeed = Callable[..., tuple[Lineage, Losses]]


def _succeed(instead: Succeed) -> list[Patch]:
    return [(recovery, "succeed", instead)]


def _gap_left_out() -> list[Patch]:
    """The ring holds the entries of earlier lives as one run."""

    def begin(
        self: Stream, lineage: Lineage, offset: int, losses: Losses, entries: Iterable[Entry]
    ) -> None:
        old = self.log
        self.log = Log(old.max_messages, old.max_bytes, self.epoch, lineage, offset, losses)
        self.pacing = Pacing(self.log, self._pace)
        for entry in entries:
            self.log.append(entry)

    return [(Stream, "begin", begin)]


def _loss_not_said() -> list[Patch]:
    original: Succeed = vars(recovery)["succeed"]

    def succeed(view: StreamView, *, lost: int | None) -> tuple[Lineage, Losses]:
        return original(view, lost=lost)[0], view.losses

    return _succeed(succeed)


def _loss_of_the_wrong_life() -> list[Patch]:
    """The loss is reported for the life before the one that ended."""
    original: Succeed = vars(recovery)["succeed"]

    def succeed(view: StreamView, *, lost: int | None) -> tuple[Lineage, Losses]:
        lineage, losses = original(view, lost=lost)
        if lost == 0 or not view.lineage or view.lineage[0][0] in dict(view.losses):
            return lineage, losses
        return lineage, ((view.lineage[0][0], lost), *view.losses)

    return _succeed(succeed)


def _one_too_few() -> list[Patch]:
    original: Succeed = vars(recovery)["succeed"]

    def succeed(view: StreamView, *, lost: int | None) -> tuple[Lineage, Losses]:
        return original(view, lost=lost - 1 if lost else lost)

    return _succeed(succeed)


def _unknown_is_whole() -> list[Patch]:
    original: Succeed = vars(recovery)["succeed"]

    def succeed(view: StreamView, *, lost: int | None) -> tuple[Lineage, Losses]:
        return original(view, lost=lost or 0)

    return _succeed(succeed)


def _nothing_is_proven() -> list[Patch]:
    def prove(end: RecoveredEnd, evidence: Evidence) -> EndProof:
        return EndProof(None, "a mutant")

    return [(whole_end, "prove", prove)]


def _hear(change: Callable[[RecoveredEnd, Found], Found | None]) -> list[Patch]:
    original: Callable[..., Any] = vars(whole_end)["_hear"]

    def hear(end: RecoveredEnd, found: Found, evidence: Evidence, *, in_folder: bool) -> Any:
        changed = change(end, found)
        if changed is None:
            return False, EndProof(None, "not heard")
        return original(end, changed, evidence, in_folder=in_folder)

    return [(whole_end, "_hear", hear)]


def _copy_believed() -> list[Patch]:
    return _hear(lambda end, found: replace(found, bound=True))


def _life_between_forgotten() -> list[Patch]:
    def of_this_history(end: RecoveredEnd, found: Found) -> Found | None:
        witness = found.witness
        return found if witness is None or witness.epoch in end.epochs else None

    return _hear(of_this_history)


def _life_after_it_not_counted() -> list[Patch]:
    """The messages of a life that began at the same end are not counted as lost with it."""

    def of_the_same_end(end: RecoveredEnd, found: Found) -> Found:
        witness = found.witness
        if witness is None or witness.previous != end.epoch or witness.epoch == end.epoch:
            return found
        return replace(found, witness=replace(witness, accepted=witness.begin))

    return _hear(of_the_same_end)


def _other_boot_believed() -> list[Patch]:
    def trusts(self: Evidence, found: Found) -> bool:
        return found.witness is not None and found.bound

    return [(Evidence, "trusts", trusts)]


def _oldest_life_recovered() -> list[Patch]:
    original: Callable[..., tuple[int, ...]] = vars(peer_recovery)["_reach"]

    def reach(
        end: RecoveryEnd, others: list[RecoveryEnd], latest: Epoch | None = None
    ) -> tuple[int, ...]:
        return tuple(-each for each in original(end, others, latest))

    return [(peer_recovery, "_reach", reach)]


def _registered_is_behind() -> list[Patch]:
    """A cursor that is kept for a consumer is read as an offset alone."""
    original = attach.resolve

    def resolve(claim: Claim, view: StreamView, registered: Position | None = None) -> Verdict:
        if isinstance(claim, Remembered) and registered is not None:
            registered = view.place(registered.offset)
        return original(claim, view, registered)

    return [*_everywhere(resolve), (bookmark, "resolve", resolve)]


def _place_is_before() -> list[Patch]:
    """A reader that was told of a loss is told again when its place gets another name."""

    def named(self: StreamView, offset: int) -> Position:
        return place(self.epoch, self.lineage, offset)

    return [(StreamView, "place", named)]


_mutant = partial(Mutant, within=60, run=of_kind("recoveries"))

ENDS = (
    _mutant("gap left out of the ring", patches=_gap_left_out),
    _mutant("loss not said", patches=_loss_not_said),
    _mutant("loss of the wrong life", patches=_loss_of_the_wrong_life),
    _mutant("lost count one too few", patches=_one_too_few),
    _mutant("unknown end is whole", patches=_unknown_is_whole),
    _mutant("no end is proven", patches=_nothing_is_proven),
    _mutant("proof in a copied folder believed", patches=_copy_believed),
    _mutant("life in between forgotten", patches=_life_between_forgotten),
    _mutant("life behind the same end not counted", patches=_life_after_it_not_counted),
    _mutant("count of another boot believed", patches=_other_boot_believed),
    _mutant("oldest life recovered", patches=_oldest_life_recovered),
    Mutant("registered cursor is behind the gap", 40, _registered_is_behind, of_kind("unheard")),
    _mutant("place behind a gap named before it", patches=_place_is_before),
)
