"""Words that make a sentence a riddle: first words of docstrings, and phrases that hide the actor or the figure.

The rules are those of CONTRIBUTING.md. A machine finds the words; whether a sentence is clear, people decide.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FIRST_WORDS: Final = frozenset(
    [
        "who",
        "whoever",
        "whom",
        "whose",
        "of",
        "what",
        "whatever",
        "so",
        "which",
        "where",
        "how",
        "why",
        "when",
        "it",
        "its",
        "it's",
        "one",
        "those",
        "somebody",
        "nobody",
        "everybody",
        "anybody",
        "everything",
        "nothing",
        "something",
    ]
)
"""A docstring begins with a noun or an imperative verb: with none of these."""

RIDDLES: Final = re.compile(r"\s*# (Who|Whoever|Whom|Whose|Of|What|So)\b")
"""A comment that begins with one of these words hides its subject."""

OPENINGS: Final = re.compile(
    r"(?:^[ \t]*(?:[-*][ ]|\d+\.[ ])?|[.:;][ ])(Who|Whoever|Whom|Whose|Of|What|So)\b", re.MULTILINE
)
"""A sentence of a document that begins with one of these words hides its subject."""

PHRASES: Final = {
    "is no": "is not, or: is invalid",
    "are no": "are not, or: no ... exists",
    "so many": "the figure",
    "so much": "the figure",
    "somebody": "the actor: the session, the peer, a user",
    "nobody": "no session, no peer, no user",
    "everybody": "all sessions, all peers, all users",
    "anybody": "any session, any peer, any user",
    "whoever": "the actor: the session, the peer, a user",
    "whomever": "the actor: the session, the peer, a user",
    "whatever": "the thing itself",
}
"""What is not written, and what stands there instead."""

_EACH: Final = "|".join(PHRASES).replace(" ", r"\s+")
_PHRASE: Final = re.compile(rf"\b({_EACH})\b(?!\s+longer\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One place to write anew. `line` counts from 1."""

    line: int
    text: str


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, those of attributes included."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        has_docstring = isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        )
        for before, statement in zip([None, *body], body, strict=False):
            if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
                continue
            if not isinstance(statement.value.value, str):
                continue
            of_attribute = isinstance(before, (ast.Assign, ast.AnnAssign))
            if of_attribute or (before is None and has_docstring):
                yield statement.lineno, statement.value.value


def first_words(source: str) -> Iterator[Finding]:
    """Docstrings of a Python file that begin with one of `FIRST_WORDS`."""
    for line, text in docstrings(source):
        word = text.split()[0].strip(".,:;`*'\"") if text.split() else ""
        if word.lower() in FIRST_WORDS:
            shown = text.strip().splitlines()[0][:60]
            yield Finding(line, f"docstring begins with {word!r}: {shown!r}")


def comments(source: str) -> Iterator[Finding]:
    """Comments on a line of their own that begin with one of `RIDDLES`."""
    for number, line in enumerate(source.splitlines(), start=1):
        found = RIDDLES.match(line)
        if found is not None:
            yield Finding(number, f"comment begins with {found[1]!r}: {line.strip()[:60]!r}")


def sentences(document: str) -> Iterator[Finding]:
    """Sentences of a Markdown file that begin with a word of `OPENINGS`, headings and cells of tables excepted."""
    for found in OPENINGS.finditer(document):
        line = document.count("\n", 0, found.start(1)) + 1
        yield Finding(line, f"sentence begins with {found[1]!r}")


def phrases(text: str) -> Iterator[Finding]:
    """Places of any text file that use one of `PHRASES`."""
    for found in _PHRASE.finditer(text):
        phrase = " ".join(found[1].lower().split())
        line = text.count("\n", 0, found.start()) + 1
        yield Finding(line, f"{phrase!r}: write {PHRASES[phrase]}")
