"""Samples of running brokers, and their checks: readers are told in time (G4), and no part exceeds its bound (G5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.simulation.violation import Violation


@dataclass(frozen=True, slots=True)
class Told:
    """The last told place of a resting reader that could be told more of `stream`, and the oldest offset of its log."""

    node: str
    reader: str
    stream: str
    told: int
    oldest: int


def told_in_time(samples: Iterable[Told]) -> None:
    """G4: a reader is told how far it has come before the log lets go of the place that it was told last."""
    for sample in samples:
        if sample.told < sample.oldest:
            raise Violation(
                f"G4: {sample.node}: {sample.reader} knows of {sample.told} of {sample.stream}, the log holds from "
                f"{sample.oldest} on"
            )


@dataclass(frozen=True, slots=True)
class Parted:
    """The end of a stopping broker in a stream, and the place it told `hears`, a session or a producer."""

    node: str
    hears: str
    stream: str
    told: int
    passed: int


def told_as_it_parts(samples: Iterable[Parted]) -> None:
    """G4: the last words of a broker tell its sessions and its producers how far it has come."""
    for sample in samples:
        if sample.told != sample.passed:
            raise Violation(
                f"G4: {sample.node} parts: {sample.hears} knows of {sample.told} of {sample.stream}, it has come to "
                f"{sample.passed}"
            )


@dataclass(frozen=True, slots=True)
class Held:
    """The amount that a bounded part held at a moment."""

    node: str
    what: str
    held: int
    limit: int


def bounded(samples: Iterable[Held]) -> None:
    """G5: no part ever held more than its bound."""
    for sample in samples:
        if sample.held > sample.limit:
            raise Violation(
                f"G5: {sample.node}: {sample.what} held {sample.held}, the bound is {sample.limit}"
            )
