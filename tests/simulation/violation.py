"""The error of the checkers."""

from __future__ import annotations

from typing import NoReturn

from tests.simulation.history import History


class Violation(AssertionError):
    """The guarantee is broken. The text names the part, the reader and the place."""


def refuse(rule: str, history: History, node: str, what: str) -> NoReturn:
    raise Violation(f"{rule}: {history.name} in the stream of {node}: {what}")
