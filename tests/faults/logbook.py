"""A log that is its process's state: a complete line has happened, a torn line has not.

Each step is one line, written at once. A written line survives a SIGKILL of its process. Only the last line can be
torn; readers and later lives leave a torn line out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Logbook:
    """Appends records to a file that earlier lives of the same application have begun."""

    def __init__(self, path: Path) -> None:
        path.touch()
        whole = path.read_bytes().rpartition(b"\n")[0]
        self.records: list[Record] = [json.loads(line) for line in whole.splitlines()]
        """The records of earlier lives."""
        os.truncate(path, len(whole) + 1 if whole else 0)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, record: Record) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        written = os.write(self._file, line)
        if written < len(line):
            raise OSError(f"the log took {written} of {len(line)} bytes")


class Follower:
    """Reads a log while another process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def news(self) -> list[Record]:
        """The records since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]
