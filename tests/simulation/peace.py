"""The time that a healed cluster gets: to settle, and to carry what is still to be published."""

from __future__ import annotations

from typing import Final

SETTLES_MS: Final = 60_000
"""Virtual time in which a healed cluster links up, and brings every session to the end of streams that stand still."""


def peace_ms(batches: int, slowest_ms: int) -> int:
    """Virtual time until every session must have reached the end of every stream. Pure.

    `batches`: those that are still to be published on one node. `slowest_ms`: the longest delay of a piece of bytes.

    A slow reader holds publishers for less than their allowance each time, so they may go at the speed of its wire to
    the end. Each batch may travel in a frame of its own, with one frame at a time on the wire. An arrival takes
    `slowest_ms / 2` on average, and brings all bytes or a part of even chance. A frame thus takes less than 2 arrivals
    on average, however small the wire's capacity: see `wires.py`.
    """
    return SETTLES_MS + batches * slowest_ms
