"""An application that runs the page's `project` on a file, until it is killed: SOCKET, FILE, and the recipe on
standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pubsubd


class Database:
    """Position and applied messages, in one file that changes as a whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = json.loads(file.read_text()) if file.exists() else {"position": None, "applied": []}
        self.position: Any = kept["position"]
        self.applied: list[Any] = kept["applied"]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps({"position": self.position, "applied": self.applied}))
        os.replace(beside, self._file)

    def apply(self, topic: str, payload: Any) -> None:
        self.applied.append(payload)


async def main() -> None:
    defined: dict[str, Any] = {"pubsubd": pubsubd}
    exec(compile(sys.stdin.read(), "docs/application.md", "exec"), defined)
    async with pubsubd.connect(sys.argv[1]) as client:
        await defined["project"](client, Database(Path(sys.argv[2])))


if __name__ == "__main__":
    asyncio.run(main())
