from __future__ import annotations

import pytest
from tests.unit.broker_shell.a_status import a_status

from pubsubd_cli.tables import consumers_table, span, status_text, table


def test_columns_are_as_wide_as_they_must_be_and_numbers_stand_right() -> None:
    assert table(("NAME", "N"), [("a", 5), ("longer", 10), (None, None)]) == (
        "NAME     N\na        5\nlonger  10\n-        -"
    )


def test_a_cell_can_not_break_the_table() -> None:
    assert table(("A",), [("two\nlines",)]) == "A\ntwo lines"


def test_an_empty_table_is_its_headings() -> None:
    assert consumers_table([]) == "CONSUMER  CONNECTED  CURSOR  LAG  AWAY"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0s"),
        (9.9, "9.9s"),
        (10, "10s"),
        (72, "1m 12s"),
        (7500, "2h 5m"),
        (273_600, "3d 4h"),
    ],
)
def test_a_span_has_two_units_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_the_status_shows_ring_peers_consumers_and_sessions() -> None:
    text = status_text(a_status())
    for part in (
        "a  (version 0.1.0, epoch 0000",
        "10 of 100 messages",
        "offsets 5 to 15",
        "connection refused",
        "projector",
        "orders.>",
        "1m 30s",
    ):
        assert part in text
    assert (
        status_text(a_status() | {"ready": False, "not_ready": ["peer c"]}).count("no: peer c") == 1
    )


def test_the_status_of_a_single_node_has_no_empty_tables() -> None:
    text = status_text(a_status() | {"peers": [], "consumers": [], "sessions": []})
    assert "PEER" not in text
    assert "CONSUMER" not in text
    assert "SESSION" not in text


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_nothing_that_others_say_of_themselves_commands_the_terminal(encoding: str) -> None:
    hostile = "\x1b\x7f\x9b\x9d\u202e\u2028é€"
    report = a_status() | {"ready": False, "not_ready": [hostile]}
    for rows, field in (("peers", "error"), ("sessions", "name"), ("consumers", "consumer")):
        report[rows] = [row | {field: hostile} for row in report[rows]]
    lines = status_text(report, encoding).split("\n")
    assert sum("\\u001b" in line for line in lines) == 7
    for line in lines:
        assert line.isprintable()
        line.encode(encoding)
