"""Fixtures that start real brokers. pytest shows their last log lines beside a failed test."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import pytest
from tests.integration.broker import Broker
from tests.integration.cluster import Cluster

if TYPE_CHECKING:
    from tests.certificates import Authority

# A slow example on a busy machine shows nothing about the code.
hypothesis.settings.register_profile("pubsubd", deadline=None, max_examples=50)
hypothesis.settings.load_profile("pubsubd")
# `make test-fast` takes this one.
hypothesis.settings.register_profile("fast", deadline=None, max_examples=10)

UNIT: Final = Path(__file__).parent / "unit"

# A shell starts `make test &` with SIGINT ignored, and processes inherit that: commands that a test interrupts would
# go on for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of `tests/unit` that `make test-fast` runs."""
    for item in items:
        if item.path.is_relative_to(UNIT) and item.get_closest_marker("slow") is None:
            item.add_marker("fast")


def pytest_collection_finish() -> None:
    """Spares each collection of garbage the look at all tests and modules: they stay to the end."""
    gc.freeze()


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """`start_broker("a", ring_messages=100)`: a running `Broker`, ended after the test."""
    with contextlib.ExitStack() as stack:

        def start(node: str = "a", **options: Any) -> Broker:
            broker = Broker(tmp_path, node, **options)
            stack.callback(_end, broker)
            return broker.start()

        yield start


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """`start_cluster(3, ring_messages=100)`: a connected `Cluster`, ended after the test.

    `cut=[("b", "a")]`: this link is cut from the beginning, and the fixture does not wait until all have met; nor
    with `wait_ready=False`.
    """
    with contextlib.ExitStack() as stack:

        def start(
            nodes: int = 3,
            *,
            cut: Iterable[tuple[str, str]] = (),
            wait_ready: bool = True,
            **options: Any,
        ) -> Cluster:
            cluster = Cluster(tmp_path, nodes, **options)
            stack.callback(_end, cluster)
            links = [cluster.link(*pair) for pair in cut]
            for link in links:
                link.cut()
            return cluster.start(wait_ready=wait_ready and not links)

        yield start


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority of this test."""
    # Few tests need it, and all would wait for its import.
    from tests.certificates import Authority

    return Authority(tmp_path)


def _end(started: Broker | Cluster) -> None:
    tail = started.tail()
    started.close()
    sys.stderr.write(tail + "\n")
