"""The text of README.md, docs/application.md and docs/options.md, and the commands and blocks in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "docs/application.md", "docs/options.md")
README: Final = "\n".join((ROOT / page).read_text() for page in PAGES)
"""The pages as one text."""

_FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(README) if found == language]


def commands() -> list[list[str]]:
    """Every command of the shell blocks, split as a shell would."""
    return [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


def pubsubd_commands(name: str) -> list[list[str]]:
    return [words for words in commands() if words[:2] == ["pubsubd", name]]
