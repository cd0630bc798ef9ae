"""The environment of a broker at its start: paths, files of settings, unknown keys."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import TIMEOUT_S, environment, ok


def test_start_reads_tilde_and_mark_and_logs_ignored_settings(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbfnode = "marked"\r\nlisten = false\r\n')
    more = {
        "HOME": str(tmp_path),
        "PUBSUBD_CONFIG": "~/a.toml",
        "PUBSUBD_SOCKET": "~/s",
        "PUBSUBD_IMAGE_TAG": "7",
        "PUBSUBD_SERVICE_HOST": "10.0.0.1",
    }
    with subprocess.Popen(
        [*PUBSUBD, "start", "--no-http", "--journal=~/j", "--fsync", "always"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=environment(more),
    ) as process:
        try:
            assert process.stderr is not None
            said = [json.loads(process.stderr.readline())]
            while said[-1]["event"] != "broker.started":
                said.append(json.loads(process.stderr.readline()))
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert (said[0]["event"], said[0]["variables"]) == ("settings.ignored", ["PUBSUBD_IMAGE_TAG"])
    started = said[-1]
    assert (started["node"], started["socket"]) == ("marked", str(tmp_path / "s"))
    assert (tmp_path / "j").is_dir()
    assert "~" not in os.listdir(tmp_path)


def test_relative_paths_are_reported_as_absolute_ones(tmp_path: Path) -> None:
    with contextlib.closing(Broker(tmp_path, "a", journal="j", fsync="always")) as broker:
        broker.socket = "s"
        broker.start()
        here = tmp_path / "broker-a"
        assert broker.socket == broker.status()["addresses"]["socket"] == str(here / "s")
        assert broker.status()["journal"]["folder"] == str(here / "j")
        ok("publish", "t", "x", "--socket", broker.socket)
        assert broker.stop() == 0
        assert list((here / "j").glob("*.journal"))
        assert not (here / "s").exists()
