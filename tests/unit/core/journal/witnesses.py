"""Witnesses of lives of node "a", as they are found: in the very file that they were written to, in a copy, not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.unit.core.builders import E2

from pubsubd_broker.core.journal.whole_end import FileIdentity, Found, Witness
from pubsubd_protocol.positions import NO_EPOCH, Epoch

BOOT: Final = b"\x01" * 16
OTHER_BOOT: Final = b"\x02" * 16
FILE: Final = FileIdentity(12, 34)


def witness(life: Epoch = E2, accepted: int = 100, **other: object) -> Witness:
    usual = Witness("a", life, BOOT, 0, NO_EPOCH, None, NO_EPOCH, FILE, accepted)
    return replace(usual, **other)  # type: ignore[arg-type]


def idle(life: Epoch, begin: int, **other: object) -> Witness:
    """The witness of a life that has accepted no message."""
    return witness(life, begin, begin=begin, **other)


def bound(found: Witness) -> Found:
    return Found(found, bound=True)


def copied(found: Witness) -> Found:
    return Found(found, bound=False)


UNREADABLE: Final = Found(None, bound=False)
