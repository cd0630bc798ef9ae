"""Files that somebody removes while the broker runs: it says so, and promises nothing that it can't keep."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.integration.commands import ok, pubsubd
from tests.integration.steps import StartBroker
from tests.integration.test_journal_failures import why_not_ready


def test_a_journal_whose_folder_is_removed_has_failed(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    a = start_broker("a", journal=tmp_path / "j", fsync="always")
    ok("publish", "t", "x", "--socket", a.socket)
    shutil.rmtree(tmp_path / "j")
    a.wait_log("journal.failed")
    assert "journal" in why_not_ready(a)
    refused = pubsubd("publish", "t", "x", "--socket", a.socket, "--timeout", "1s")
    assert refused.returncode != 0
    assert a.stop() == 1


def test_a_socket_that_is_removed_is_told_and_the_broker_not_ready(
    start_broker: StartBroker,
) -> None:
    a = start_broker("a")
    os.unlink(a.socket)
    a.wait_log("place.lost", what="socket")
    assert "is gone" in why_not_ready(a)
    assert a.stop() == 0
