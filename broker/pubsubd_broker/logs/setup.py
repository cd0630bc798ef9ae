"""Logging: structured events on standard error, as text for people or as a JSON object per line."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import sys
from typing import Any, Final, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from pubsubd_broker.logs.writer import LOG_FLUSH_S, LogWriter
from pubsubd_protocol.printable import printable, printable_lines

LogFormat = Literal["console", "json"]

STANDARD_ERROR: Final = 2

_writer: LogWriter | None = None
"""Writer of the process's own log, if it was configured without a stream."""

_OF_LINES: Final = frozenset({"exception", "stack"})
"""Fields whose line feeds are their own."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure_logging(form: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send structlog's events, and what libraries log, to `stream` (default: standard error, which never stops them).

    In JSON each line has `event`, `level`, `timestamp` (ISO 8601, UTC) and the event's fields.
    """
    output = _process_log() if stream is None else _Unfailing(stream)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor]
    if form == "json":
        rendering = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(_dump),
        ]
    else:
        rendering = [
            structlog.processors.format_exc_info,
            _only_printable,
            structlog.dev.ConsoleRenderer(
                colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(output),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_foreign],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # asyncio's debug records are about asyncio.
    root.setLevel(max(_LEVELS[level], logging.INFO))


def dropped_lines() -> int:
    """Log lines that could not be written since the process began."""
    return _writer.dropped if _writer is not None else 0


def flush_log() -> None:
    """Waits until the last lines are written, at most `LOG_FLUSH_S`."""
    if _writer is not None:
        _writer.wait_written(LOG_FLUSH_S)


def _process_log() -> LogWriter:
    """Standard error through a writer that never waits; Python's own, too: tracebacks of threads and finalisers."""
    global _writer
    if _writer is None:
        _writer = LogWriter(STANDARD_ERROR, _describe_dropped)
        sys.stderr = cast(TextIO, _writer)
        atexit.register(flush_log)
    return _writer


def _describe_dropped(count: int) -> str:
    # Rendered as any other event, but not written as one: the log's own lock may be held by a writer who waits.
    line = structlog.wrap_logger(structlog.ReturnLogger()).warning("log.resumed", dropped=count)
    return f"{line}\n" if line else ""


def _only_printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escapes what others have said: a terminal that shows it would obey some of it.

    Text is escaped here; of any other value the renderer shows the `repr`, which escapes as much.
    """
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = printable_lines(value) if key in _OF_LINES else _Shown(value)
    return event


class _Shown:
    """Escaped text, which the renderer would else escape a second time where it holds spaces."""

    def __init__(self, text: str) -> None:
        self._text = printable(text)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"'{self._text}'"


def _name_foreign(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A library's sentence becomes a field; event names are constant."""
    record = event.get("_record")
    event["text"] = event["event"]
    event["event"] = f"{record.name if record is not None else 'library'}.logged"
    return event


def _dump(fields: EventDict, **options: Any) -> str:
    # For people who read it after all: what happened first, its figures behind.
    first = {key: fields[key] for key in ("timestamp", "level", "event") if key in fields}
    event = {**first, **fields}
    # JSON has no NaN; a log line must be readable with any fields.
    try:
        return json.dumps(event, allow_nan=False, **options)
    except ValueError:
        return json.dumps({key: _finite(value) for key, value in event.items()}, **options)


def _finite(value: Any) -> Any:
    return value if isinstance(value, (str, int, bool, type(None))) else repr(value)


class _Unfailing:
    """A text stream whose reader may go away: a broker does not end because its log does."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()
