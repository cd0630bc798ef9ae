"""A top-level name stands for one thing in all that is installed."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("broker", "client", "cli", "protocol")

SAME_THING: Final = frozenset(
    {*("Batch", "CursorExpired", "Receipt"), *("Client", "Subscription", "connect")}
)
"""The SDK gives applications what the frame of that name brings, and `pubsubd.sync` has the names of `pubsubd`.

Each module has a logger, `log`, besides.
"""


def named(source: str) -> Iterator[str]:
    """Public names that a module binds at its top level by a class, a function or an assignment. Type variables are left out."""
    for statement in ast.parse(source).body:
        match statement:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=targets, value=value) if not _is_type_variable(value):
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_type_variable(value: ast.expr) -> bool:
    match value:
        case ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec")):
            return True
    return False


def bound_twice(sources: dict[str, str]) -> dict[str, list[str]]:
    """Names that more than one module binds, and the modules."""
    where: dict[str, list[str]] = defaultdict(list)
    for file, source in sources.items():
        for name in named(source):
            if not name.startswith("_") and name not in {"log", *SAME_THING}:
                where[name].append(file)
    return {name: files for name, files in where.items() if len(files) > 1}


def test_each_name_stands_for_one_thing() -> None:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 100
    assert bound_twice({str(file.relative_to(ROOT)): file.read_text() for file in files}) == {}


def test_a_second_meaning_is_found() -> None:
    sources = {
        "a": "class Answer: ...",
        "b": "Answer = int | str",
        "c": "T = TypeVar('T')",
        "d": "T = TypeVar('T')",
    }
    assert bound_twice(sources) == {"Answer": ["a", "b"]}
