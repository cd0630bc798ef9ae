"""The name that was likely meant by one that is unknown: typing errors in settings. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

NEAR: Final = 0.8
"""Least likeness of a typing error, as `difflib` measures it: a letter or two in a name of ten."""


def likely_name(name: str, known: Iterable[str], near: float = NEAR) -> str | None:
    """The one of `known` that is most like `name`; None if none is near. Case and separators do not count."""
    bare = {_bare(each): each for each in known}
    found = difflib.get_close_matches(_bare(name), bare, 1, near)
    return bare[found[0]] if found else None


def _bare(name: str) -> str:
    return name.lower().translate({ord(each): None for each in "-_. "})
