"""Runtime info: figures that only the shell of a node knows, for status and metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class RuntimeInfo:
    """Figures that the shell writes and the status reads."""

    socket: str = ""
    listen: str | None = None
    http: str | None = None
    journal: str | None = None
    """The folder in which the stream is kept."""
    event_loop_lag_s: float = 0.0
    tasks: int = 0
    accept_pauses: Counter[str] = field(default_factory=Counter)
    """Waits for descriptors or memory, by listener."""
    http_refused: Counter[str] = field(default_factory=Counter)
    """Refused requests, by reason."""
    certificate_expires_s: float | None = None
    """End of the node's own certificate, in seconds since 1970."""
    log_lines_dropped: int = 0
    """Log lines that were not written: too many at once, or the disk or terminal failed."""
    places: dict[str, str | None] = field(default_factory=dict)
    """Files and folders that the node relies on, each with its present problem or None."""
