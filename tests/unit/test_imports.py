"""Imports run one way: cli -> broker shell -> core -> protocol, and cli -> client -> protocol."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IMPURE = frozenset(
    {
        *("asyncio", "selectors", "socket", "ssl", "subprocess", "signal"),
        *("time", "datetime", "random", "secrets", "uuid"),
        *("threading", "multiprocessing", "concurrent", "logging", "os"),
    }
)
"""Modules that would bring a socket, a clock, chance, a thread or a logger into pure code."""

OURS = frozenset({"pubsubd", "pubsubd_broker", "pubsubd_cli", "pubsubd_protocol"})


@dataclass(frozen=True)
class Rule:
    """Imports that a package may have. `ours` and `others` are prefixes of dotted names."""

    folder: str
    package: str
    ours: tuple[str, ...]
    others: tuple[str, ...] | None = ()
    """None: anything."""
    pure: bool = False

    def breach(self, name: str) -> str | None:
        top = name.partition(".")[0]
        if top in OURS:
            return None if _below(name, self.ours) else "crosses a layer"
        if top in sys.stdlib_module_names:
            return "is not pure" if self.pure and top in IMPURE else None
        if self.others is None or _below(name, self.others):
            return None
        return "is not a dependency of this layer"


RULES = (
    Rule(
        "protocol/pubsubd_protocol", "pubsubd_protocol", ("pubsubd_protocol",), ("msgpack",), True
    ),
    Rule(
        "broker/pubsubd_broker/core",
        "pubsubd_broker.core",
        ("pubsubd_protocol", "pubsubd_broker.core"),
        ("google_crc32c", "msgpack"),
        True,
    ),
    Rule("broker/pubsubd_broker", "pubsubd_broker", ("pubsubd_protocol", "pubsubd_broker"), None),
    Rule("client/pubsubd", "pubsubd", ("pubsubd_protocol", "pubsubd"), ("msgpack",)),
    Rule("cli/pubsubd_cli", "pubsubd_cli", tuple(OURS), None),
)


def _below(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def imported(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Every module that `source` imports, anywhere in it; relative imports made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                keep = len(parents) - node.level + (1 if is_package else 0)
                base = ".".join([*parents[:keep], *([base] if base else [])])
            # `from pubsubd_broker import core` imports a module too.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "__import__"
        ):
            yield "__import__"


def breaches(rule: Rule, source: str, module: str, is_package: bool = False) -> list[str]:
    return [
        f"{module}: {name} {why}"
        for name in imported(source, module, is_package)
        if (why := rule.breach(name)) is not None
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.package)
def test_every_module_imports_only_what_its_layer_may(rule: Rule) -> None:
    files = sorted((ROOT / rule.folder).rglob("*.py"))
    assert files, f"nothing in {rule.folder}"
    found = []
    for file in files:
        parts = [rule.package, *file.relative_to(ROOT / rule.folder).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        found += breaches(rule, file.read_text(), module, is_package)
    assert found == []


PROTOCOL, CORE, BROKER, CLIENT, CLI = RULES


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (PROTOCOL, "import asyncio"),
        (PROTOCOL, "import structlog"),
        (PROTOCOL, "from pubsubd_broker import core"),
        (PROTOCOL, "def f():\n    import random"),
        (CORE, "from time import monotonic"),
        (CORE, "import os.path"),
        (CORE, "import h11"),
        (CORE, "import socket as s"),
        (CORE, "from datetime import datetime"),
        (CORE, "if True:\n    from pubsubd_broker import settings"),
        (CORE, "from .. import settings"),
        (CORE, "from ..settings import Settings"),
        (CORE, "from pubsubd_broker.core_but_not import x"),
        (CORE, "import pubsubd"),
        (CORE, "__import__('time')"),
        (BROKER, "import pubsubd"),
        (BROKER, "from pubsubd.errors import DecodeError"),
        (BROKER, "import pubsubd_cli.main"),
        (CLIENT, "import pubsubd_broker"),
        (CLIENT, "def f():\n    from pubsubd_broker.core import ring"),
        (CLIENT, "import uvloop"),
        (CLIENT, "import structlog"),
    ],
)
def test_a_planted_breach_is_found(rule: Rule, source: str) -> None:

    assert breaches(rule, source, f"{rule.package}.planted") != []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (PROTOCOL, "import msgpack\nfrom pubsubd_protocol.errors import PubSubError"),
        (CORE, "import msgpack\nfrom google_crc32c import extend"),
        (CORE, "from collections import deque\nfrom . import ring\nfrom .ring import Ring"),
        (CORE, "from pubsubd_protocol import topics"),
        (BROKER, "import asyncio, h11, structlog\nfrom pubsubd_broker.core import node"),
        (CLIENT, "import asyncio, msgpack\nfrom pubsubd import errors"),
        (CLI, "import pubsubd, pubsubd_broker.daemon, click"),
    ],
)
def test_an_allowed_import_is_not_a_breach(rule: Rule, source: str) -> None:
    assert breaches(rule, source, f"{rule.package}.fine") == []
