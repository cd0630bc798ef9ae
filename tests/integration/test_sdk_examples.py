"""The programs of `examples/` run against a real broker, as a reader would run them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.integration.broker import Broker
from tests.integration.commands import Running, holds, ok
from tests.integration.steps import StartBroker

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
LINES: Final = 40


@pytest.fixture
def broker(start_broker: StartBroker) -> Broker:
    return start_broker("a")


def example(name: str, broker: Broker, *arguments: str) -> Running:
    return Running(
        str(EXAMPLES / f"{name}.py"),
        *arguments,
        env={"PUBSUBD_SOCKET": broker.socket},
        command=[sys.executable],
    )


def order(broker: Broker, number: int, what: str = "created") -> None:
    ok("publish", f"orders.{what}", f'{{"id": {number}}}', "--json", "--socket", broker.socket)


def test_publish_and_subscribe_show_the_same_messages(broker: Broker) -> None:
    with example("subscribe", broker, "orders.>") as reader:
        reader.wait_lines(1)
        with example("publish", broker) as publisher:
            assert publisher.wait() == 0, publisher.errors
        lines = reader.wait_lines(1004)
    assert publisher.lines == [
        "accepted by node a at offset 0",
        "accepted at offsets [1, 2]",
        "accepted: all that was sent",
    ]
    assert lines[:3] == [
        "subscribed to orders.>",
        "orders.created {'id': 1}",
        "orders.paid {'id': 1}",
    ]
    assert lines[-1] == "orders.shipped {'id': 999}"


def test_a_named_session_resumes_where_it_ended(broker: Broker) -> None:
    mails = [f"mail about {{'id': {number}}}" for number in (1, 2, 3)]
    with example("named", broker) as first:
        assert first.wait_lines(1) == ["new"]
        order(broker, 1)
        order(broker, 2)
        assert first.wait_lines(3)[1:] == mails[:2]
    order(broker, 3)
    with example("named", broker) as second:
        # The first run was killed: its last acknowledgements may be lost, and those orders come again.
        holds(lambda: mails[-1] in second.lines, mails[-1])
        assert second.lines[0] == "resumed"
        assert second.lines[1:] == mails[-len(second.lines) + 1 :]


def test_a_stored_position_applies_each_message_once(broker: Broker, tmp_path: Path) -> None:
    database = str(tmp_path / "orders.sqlite3")
    with example("stored_position", broker, database) as first:
        first.wait_lines(1)
        order(broker, 1)
        assert first.wait_lines(2) == ["reading", "stored 1"]
        first.process.send_signal(signal.SIGKILL)
    order(broker, 2)
    with example("stored_position", broker, database) as second:
        assert second.wait_lines(2) == ["reading", "stored 2"]


def test_a_lost_history_is_answered_by_a_reload(broker: Broker) -> None:
    with example("reload", broker) as reader:
        reader.wait_lines(1)
        order(broker, 1)
        assert reader.wait_lines(2)[1] == "{1: 'created'}"
        broker.restart(signal.SIGKILL)
        assert reader.wait_lines(3)[2] == "reloaded: node a lost messages (state_lost)"
        order(broker, 2, "paid")
        assert reader.wait_lines(4)[3] == "{2: 'paid'}"


def test_each_example_is_run_here_and_is_short() -> None:
    tested = Path(__file__).read_text()
    found = sorted(EXAMPLES.glob("*.py"))
    assert found
    for path in found:
        assert f'example("{path.stem}"' in tested, path
        assert len(path.read_text().splitlines()) < LINES, path
