"""Sizes and durations as people write them: `64MiB`, `250ms`, `24h`. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}

# Fifteen digits reach beyond any real size or time, and stay exact in a float.
_WRITTEN = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]*)\s*", re.ASCII)
_SIZE_FACTORS = {unit.lower(): factor for unit, factor in SIZE_UNITS.items()}


def parse_size(text: str) -> int:
    """Bytes. A plain number is bytes; units are B, KiB, MiB, GiB in any case. Raises `ValueError`."""
    match = _WRITTEN.fullmatch(text)
    factor = _SIZE_FACTORS.get(match[2].lower() or "b") if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size")
    size = Decimal(match[1]) * factor
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact form with a whole number: 65536 is `64KiB`, 1000 is `1000B`."""
    unit = "B"
    for candidate, factor in SIZE_UNITS.items():
        if size and size % factor == 0:
            unit = candidate
    return f"{size // SIZE_UNITS[unit]}{unit}"


def parse_duration(text: str) -> float:
    """Seconds. A plain number is seconds; units are ms, s, m, h. Raises `ValueError`."""
    match = _WRITTEN.fullmatch(text)
    factor = DURATION_UNITS.get(match[2] or "s") if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a duration")
    return float(Decimal(match[1]) * factor)


def format_duration(seconds: float) -> str:
    """The exact form in the largest unit with a whole number: 86400 is `24h`, 0.25 is `250ms`."""
    exact = Decimal(repr(seconds))
    unit = "s"
    if 0 < exact < 1:
        unit = "ms"
    else:
        for candidate in ("m", "h"):
            if exact and exact % DURATION_UNITS[candidate] == 0:
                unit = candidate
    number = f"{exact / DURATION_UNITS[unit]:f}"
    return (number.rstrip("0").rstrip(".") if "." in number else number) + unit
