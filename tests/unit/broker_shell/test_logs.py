from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from pubsubd_broker.logs.setup import configure_logging


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_json_line_has_event_level_timestamp_and_the_fields() -> None:
    output = io.StringIO()
    configure_logging("json", "info", output)
    structlog.get_logger().warning("peer.lost", peer="b", lag_messages=3)
    line = json.loads(output.getvalue())
    when = datetime.fromisoformat(line.pop("timestamp"))
    offset = when.utcoffset()
    assert offset is not None
    assert not offset
    assert line == {"event": "peer.lost", "level": "warning", "peer": "b", "lag_messages": 3}


def test_below_the_level_nothing_is_logged() -> None:
    output = io.StringIO()
    configure_logging("json", "warning", output)
    structlog.get_logger().info("peer.attached")
    logging.getLogger("asyncio").info("chatter")
    assert output.getvalue() == ""


def test_fields_that_json_has_not_do_not_break_the_line() -> None:
    output = io.StringIO()
    configure_logging("json", "info", output)
    structlog.get_logger().info("a.b", raw=b"\xff", number=float("nan"), text="two\nlines")
    line = json.loads(output.getvalue())
    assert (line["raw"], line["number"], line["text"]) == (r"b'\xff'", "nan", "two\nlines")
    assert output.getvalue().count("\n") == 1


def test_control_characters_are_written_out_on_the_console() -> None:
    output = io.StringIO()
    configure_logging("console", "info", output)
    structlog.get_logger().info("a.b", detail="\x1b[2J\x1b]0;owned\x07 two\nlines\x9b grün")
    line = output.getvalue()
    assert "\x1b" not in line
    assert r"\u001b[2J\u001b]0;owned\u0007 two\u000alines\u009b grün" in line
    assert line.count("\n") == 1


def test_foreign_text_in_lists_and_exceptions_is_escaped() -> None:
    output = io.StringIO()
    configure_logging("console", "info", output)
    hostile = "\x1b\x7f\x9b\x9d\u202e\u2028"
    try:
        raise ValueError(hostile)
    except ValueError:
        structlog.get_logger().exception("a.b", names=[hostile], table={hostile: hostile})
    structlog.get_logger().error(hostile)
    logging.getLogger("library").error("said %s", hostile)
    written = output.getvalue()
    assert "ValueError" in written
    assert not set(hostile) & set(written)


def test_an_exception_is_one_field_of_one_line() -> None:
    output = io.StringIO()
    configure_logging("json", "info", output)
    try:
        raise ValueError("seven")
    except ValueError:
        structlog.get_logger().exception("connection.failed")
    line = json.loads(output.getvalue())
    assert line["event"] == "connection.failed"
    assert "ValueError: seven" in line["exception"]


def test_log_lines_of_libraries_have_the_same_form() -> None:
    output = io.StringIO()
    configure_logging("json", "info", output)
    logging.getLogger("asyncio").error("Task was %s", "destroyed")
    line = json.loads(output.getvalue())
    assert (line["event"], line["level"]) == ("asyncio.logged", "error")
    assert line["text"] == "Task was destroyed"


def test_the_console_form_is_text_without_colours_off_a_terminal() -> None:
    output = io.StringIO()
    configure_logging("console", "info", output)
    structlog.get_logger().info("broker.started", node="a")
    assert "broker.started" in output.getvalue()
    assert "node=a" in output.getvalue()
    assert "\x1b" not in output.getvalue()


def test_a_log_that_nobody_reads_any_more_does_not_end_the_broker() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure_logging("json", "info", Gone())
    structlog.get_logger().info("a.b")
    logging.getLogger("asyncio").error("x")
