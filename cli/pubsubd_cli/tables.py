"""Plain tables and sentences for terminals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pubsubd_protocol.printable import printable


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], encoding: str = "utf-8"
) -> str:
    """A table with one line per row. None is shown as `-`; columns of numbers are aligned right.

    Characters that an output of that encoding cannot show are escaped before widths are counted.
    """
    cells = [["-" if cell is None else _cell(cell, encoding) for cell in row] for row in rows]
    numeric = [
        bool(cells) and all(_is_number(row[column]) for row in cells)
        for column in range(len(headings))
    ]
    widths = [
        max(len(line[column]) for line in [list(headings), *cells])
        for column in range(len(headings))
    ]
    lines = []
    for line in [list(headings), *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def consumers_table(consumers: Iterable[Mapping[str, Any]], encoding: str = "utf-8") -> str:
    """The consumers of `/status.json` as a table."""
    return table(
        ("CONSUMER", "CONNECTED", "CURSOR", "LAG", "AWAY"),
        (
            (
                row["consumer"],
                row["connected"],
                row["cursor"],
                row["lag_messages"],
                None if row["away_s"] is None else span(row["away_s"]),
            )
            for row in consumers
        ),
        encoding,
    )


def status_text(status: Mapping[str, Any], encoding: str = "utf-8") -> str:
    """All of `/status.json`, for people."""
    ring, addresses = status["ring"], status["addresses"]
    ready = "yes" if status["ready"] else f"no: {'; '.join(status['not_ready'])}"
    capacity = ring["capacity_messages"]
    facts = {
        "node": f"{status['node']}  (version {status['version']}, epoch {status['epoch']})",
        "ready": ready,
        "up": span(status["uptime_s"]),
        "socket": addresses["socket"],
        "listen": addresses["listen"] or "off",
        "http": addresses["http"] or "off",
        "ring": f"{ring['messages']:,} of {capacity:,} messages, "
        f"{ring['bytes']:,} of {ring['capacity_bytes']:,} bytes, "
        f"offsets {ring['oldest_offset']} to {ring['next_offset']}",
    }
    facts["journal"] = _journal(status["journal"]) if status["journal"] is not None else "off"
    parts = ["\n".join(f"{name:<8}{printable(fact, encoding)}" for name, fact in facts.items())]
    for rows, text in (
        (status["peers"], _peers),
        (status["consumers"], consumers_table),
        (status["sessions"], _sessions),
    ):
        if rows:
            parts.append(text(rows, encoding))
    return "\n\n".join(parts)


def _journal(journal: Mapping[str, Any]) -> str:
    if journal["failed"]:
        return f"failed: {journal['failed']}"
    folder = f"{journal['folder']}, fsync {journal['fsync']}"
    if journal["fsync"] == "snapshot":
        return f"{folder}: kept at a clean stop"
    return f"{folder}, {journal['segments']} segments, on disk up to {journal['durable_offset']}"


def span(seconds: float) -> str:
    """`3d 4h`, `2h 5m`, `7m 12s`, `0.4s`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, unit, small, small_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // small}{small_unit}"
    return f"{whole}s"


def _peers(peers: Iterable[Mapping[str, Any]], encoding: str) -> str:
    return table(
        ("PEER", "ADDRESS", "CONNECTED", "LAG", "REPLICA", "RECONNECTS", "ERROR"),
        (
            (
                row["node"],
                row["address"],
                row["connected"],
                row["lag_messages"],
                row["replica"] and row["replica"]["messages"],
                row["reconnects"],
                row["error"],
            )
            for row in peers
        ),
        encoding,
    )


def _sessions(sessions: Iterable[Mapping[str, Any]], encoding: str) -> str:
    return table(
        ("SESSION", "CONNECTED", "LAG", "PATTERNS"),
        (
            (
                row["name"],
                row["connected"],
                sum(row["lag_messages"].values()),
                _cut(" ".join(row["patterns"]), 60),
            )
            for row in sessions
        ),
        encoding,
    )


def _cell(value: object, encoding: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(" ".join(str(value).split()), encoding)


def _is_number(text: str) -> bool:
    return text == "-" or text.isdigit()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
