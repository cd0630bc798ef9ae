"""A mutant, and the hunt for it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.simulation.run import run_seed
from tests.simulation.violation import Violation

MISTAKES = (AttributeError, NameError, TypeError)
"""Errors of a mutant that does not fit the code any more."""

Patch = tuple[object, str, Any]
"""Owner, attribute, and the value in its place."""

Parameter = tuple[str, str, bool]
"""Name, kind, and whether it has a default."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A deliberate bug. `within`: one of the seeds from 0 to this catches it. `patches` are made anew each time.

    `run` runs one seed: of the plain plans, unless `of_kind` says more. Raises AttributeError if a patch names an
    attribute that does not exist, and TypeError if a stand-in takes other parameters than the function it replaces.
    """

    name: str
    within: int
    patches: Callable[[], list[Patch]]
    run: Callable[[int], object] = run_seed

    def __post_init__(self) -> None:
        for owner, attribute, _ in self.patches():
            if attribute not in vars(owner):
                raise AttributeError(f"mutant {self.name!r}: {owner} has no {attribute!r}")
        for owner, attribute, instead in self.patches():
            takes, given = _parameters(vars(owner)[attribute]), _parameters(instead)
            if takes is not None and given != takes:
                raise TypeError(
                    f"mutant {self.name!r}: {attribute!r} of {owner} takes {_shown(takes)}, its stand-in {_shown(given)}"
                )

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """The bug exists inside this context."""
        with contextlib.ExitStack() as stack:
            for owner, attribute, instead in self.patches():
                before = vars(owner)[attribute]
                stack.callback(setattr, owner, attribute, before)
                setattr(owner, attribute, instead)
            yield

    def hunt(self) -> tuple[int, str] | None:
        """The first seed that catches the bug, and the violation; None if the bug survives.

        Raises if the mutant itself is wrong: such an error catches no bug.
        """
        with self.alive():
            for seed in range(self.within):
                try:
                    self.run(seed)
                except Violation as violation:
                    if isinstance(violation.__cause__, MISTAKES):
                        raise
                    return seed, _how(violation)
        return None


def of_kind(kind: str) -> Callable[[int], object]:
    """Runs a seed of a kind of plans in `seeds.py`."""
    return partial(run_seed, kind=kind)


def _parameters(value: object) -> list[Parameter] | None:
    """Name, kind and presence of a default for each parameter; None for a property, a class or a constant."""
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if not inspect.isroutine(function):
        return None
    parameters = inspect.signature(function).parameters.values()
    return [
        (each.name, each.kind.description, each.default is not each.empty) for each in parameters
    ]


def _shown(parameters: list[Parameter] | None) -> str:
    if parameters is None:
        return "none: it is not a function"
    each = (f"{name}{' = …' * default} ({kind})" for name, kind, default in parameters)
    return ", ".join(each) or "none"


def _how(violation: Violation) -> str:
    cause = violation.__cause__
    text = str(cause) if isinstance(cause, Violation) else f"{type(cause).__name__}: {cause}"
    return text.split("\n")[0]
