"""Items of an input in another order: one is missing, doubled or moved."""

from __future__ import annotations

from collections.abc import MutableSequence
from random import Random
from typing import TypeVar

Item = TypeVar("Item")


def rearrange(items: MutableSequence[Item], at: int, how: int, chance: Random) -> None:
    """Remove the item at `at` (`how` is 0), put another one there as well (1), or swap it with another one (2)."""
    if how == 0:
        del items[at]
        return
    other = chance.randrange(len(items))
    if how == 1:
        items.insert(at, items[other])
    else:
        items[at], items[other] = items[other], items[at]
