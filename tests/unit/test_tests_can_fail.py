"""Each test makes a claim: it asserts, raises, waits for a condition, or calls what does so."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

Function = ast.FunctionDef | ast.AsyncFunctionDef

TESTS: Final = Path(__file__).parents[1]
WAITS: Final = ("wait_", "until")
"""Beginnings of functions that raise if a condition is not reached."""

RAISE: Final = frozenset({"raises", "fail", "warns"})
"""Functions of pytest that raise where a claim does not hold."""


parsed = functools.cache(ast.parse)


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """All statements, at any depth. Expressions are most of a tree, and hold none."""
    blocks = [tree]
    while blocks:
        block = blocks.pop()
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            for each in getattr(block, part, ()):
                blocks.append(each)
                if isinstance(each, ast.stmt):
                    yield each


def functions(tree: ast.AST) -> Iterator[Function]:
    for statement in statements(tree):
        if isinstance(statement, Function):
            yield statement


def read(function: Function) -> tuple[bool, set[str]]:
    """Whether the function makes a claim itself, and the names that it calls or passes on."""
    names = set()
    claims = False
    for node in ast.walk(function):
        match node:
            case ast.Assert() | ast.Raise():
                claims = True
            case ast.Name(id=name) | ast.Attribute(attr=name):
                names.add(name)
    return claims or any(name in RAISE or name.startswith(WAITS) for name in names), names


def idle_tests(sources: dict[str, str]) -> list[str]:
    """Tests that claim nothing, by themselves or through functions of these sources."""
    trees = {name: parsed(source) for name, source in sources.items()}
    found = [(name, each) for name, tree in trees.items() for each in functions(tree)]
    known = [(each.name, *read(each)) for _, each in found]
    claiming = {name for name, claims, _ in known if claims}
    while more := {name for name, _, mentioned in known if mentioned & claiming} - claiming:
        claiming |= more
    return [
        f"{name}: {each.name}"
        for name, each in found
        if each.name.startswith("test_") and each.name not in claiming
    ]


def empty_claims(source: str) -> list[int]:
    """Lines of asserts that are true for any behaviour of the code."""
    lines = []
    for statement in statements(parsed(source)):
        match statement:
            case ast.Assert(test=ast.Constant() | ast.Tuple() | ast.JoinedStr()):
                lines.append(statement.lineno)
            case ast.Assert(test=ast.BoolOp(op=ast.Or(), values=values)):
                if any(isinstance(value, ast.Constant) and value.value for value in values):
                    lines.append(statement.lineno)
    return lines


@functools.cache
def sources() -> dict[str, str]:
    return {str(path.relative_to(TESTS)): path.read_text() for path in TESTS.rglob("*.py")}


@pytest.mark.slow
def test_each_test_makes_a_claim() -> None:
    found = sources()
    assert len(found) > 200
    assert idle_tests(found) == []


@pytest.mark.slow
def test_no_claim_is_true_whatever_happens() -> None:
    found = {name: lines for name, source in sources().items() if (lines := empty_claims(source))}
    assert found == {}


@pytest.mark.parametrize(
    ("body", "idle"),
    [
        ("assert f()", False),
        ("f()", True),
        ("checked(f())", False),
        ("wait_until(f)", False),
        ("with pytest.raises(E): f()", False),
    ],
)
def test_a_test_without_a_claim_is_found(body: str, idle: bool) -> None:
    helper = "def checked(x):\n    assert x\n"
    found = idle_tests({"a": helper, "b": f"def test_a():\n    {body}\n"})
    assert found == (["b: test_a"] if idle else [])


@pytest.mark.parametrize("claim", ["True", "f() or True", "(f(), 'text')", "f'{x}'"])
def test_an_empty_claim_is_found(claim: str) -> None:
    assert empty_claims(f"assert {claim}\n") == [1]
    assert empty_claims("assert f() or g()\n") == []
