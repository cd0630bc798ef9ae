"""The public names of the SDK as text: each name of `pubsubd.__all__`, its signature, its members.

After a change of them that is meant: python -m tests.unit.client.public_names
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from operator import attrgetter
from pathlib import Path
from types import MemberDescriptorType
from typing import Any, Final

from docs.reference import FOR_THE_SDK

import pubsubd
import pubsubd.sync

PUBLIC: Final = (*pubsubd.__all__, *(f"sync.{name}" for name in pubsubd.sync.__all__))
"""Names below `pubsubd`."""

KEPT: Final = Path(__file__).with_name("public_names.txt")

SPECIAL: Final = (
    "__init__",
    "__await__",
    "__aenter__",
    "__aexit__",
    "__aiter__",
    "__anext__",
    "__enter__",
    "__exit__",
    "__iter__",
    "__next__",
    "__len__",
)


def public_names() -> str:
    """A paragraph for each name, in the order of the alphabet."""
    described = ("\n".join(_described(name)) for name in sorted(PUBLIC, key=str.lower))
    return "\n\n".join(described) + "\n"


def _described(name: str) -> Iterator[str]:
    value = attrgetter(name)(pubsubd)
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isfunction(value):
        yield _function(name, value)
    else:
        yield f"{name}: {type(value).__name__}"


def _class(name: str, cls: type[Any]) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    if issubclass(cls, Enum):
        yield f"class {name}({bases})"
        yield from (f"    {member.name} = {member.value!r}" for member in cls)
        return
    yield f"class {name}({bases})"
    members = {**dict.fromkeys(_assigned(cls)), **vars(cls)}
    for member in sorted(members):
        private = member.startswith("_") and member not in SPECIAL
        if not private and member not in FOR_THE_SDK.get(name, ()):
            yield "    " + _member(member, members[member])


def _member(name: str, value: object) -> str:
    match value:
        case property():
            return f"{name}: property"
        case None | MemberDescriptorType():
            return f"{name}: attribute"
        case _ if inspect.isfunction(value):
            return _function(name, value)
        case _:
            return f"{name} = {value!r}"


def _assigned(cls: type[Any]) -> set[str]:
    """Attributes that the methods of the class set."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


class _Unquoted(str):
    """Text that a signature shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _function(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = [
        each.replace(annotation=_unquoted(each.annotation), default=_named(each.default))
        for each in signature.parameters.values()
    ]
    shown = signature.replace(
        parameters=parameters, return_annotation=_unquoted(signature.return_annotation)
    )
    return f"{'async ' * inspect.iscoroutinefunction(function)}def {name}{shown}"


def _named(default: object) -> object:
    """A codec by its public name: its repr has addresses."""
    names = [name for name in pubsubd.__all__ if getattr(pubsubd, name) is default]
    return _Unquoted(names[0]) if names else default


def _unquoted(annotation: object) -> object:
    return _Unquoted(annotation) if isinstance(annotation, str) else annotation


if __name__ == "__main__":
    KEPT.write_text(public_names())
