"""Each test makes a claim: it asserts, raises, waits for a condition, or calls what does so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

Function = ast.FunctionDef | ast.AsyncFunctionDef

TESTS: Final = Path(__file__).parents[1]
WAITS: Final = ("wait_", "until")
"""Beginnings of functions that raise if a condition is not reached."""


def functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def claims_itself(function: Function) -> bool:
    for node in ast.walk(function):
        match node:
            case ast.Assert() | ast.Raise():
                return True
            case ast.Attribute(attr="raises" | "fail" | "warns"):
                return True
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                if name.startswith(WAITS):
                    return True
    return False


def mentions(function: Function) -> set[str]:
    """Names that the function calls or passes on."""
    nodes = list(ast.walk(function))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def idle_tests(sources: dict[str, str]) -> list[str]:
    """Tests that claim nothing, by themselves or through functions of these sources."""
    trees = {name: ast.parse(source) for name, source in sources.items()}
    found = [(name, each) for name, tree in trees.items() for each in functions(tree)]
    claiming = {each.name for _, each in found if claims_itself(each)}
    waiting = [(each.name, mentions(each)) for _, each in found if each.name not in claiming]
    while more := {name for name, mentioned in waiting if mentioned & claiming} - claiming:
        claiming |= more
    return [
        f"{name}: {each.name}"
        for name, each in found
        if each.name.startswith("test_") and each.name not in claiming
    ]


def empty_claims(source: str) -> list[int]:
    """Lines of asserts that are true whatever the code does."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assert(test=ast.Constant() | ast.Tuple() | ast.JoinedStr()):
                lines.append(node.lineno)
            case ast.Assert(test=ast.BoolOp(op=ast.Or(), values=values)):
                if any(isinstance(value, ast.Constant) and value.value for value in values):
                    lines.append(node.lineno)
    return lines


def sources() -> dict[str, str]:
    return {str(path.relative_to(TESTS)): path.read_text() for path in TESTS.rglob("*.py")}


def test_each_test_makes_a_claim() -> None:
    found = sources()
    assert len(found) > 200
    assert idle_tests(found) == []


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
