"""A name server that does not answer delays only the work that needs the name."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import ok

NAME_SERVER = "127.0.0.77"
NAMED = "some.where.example:7420"


def without_names(folder: Path) -> list[str]:
    """`pubsubd` with every name asked for at `NAME_SERVER`, for a minute."""
    configuration = folder / "resolv.conf"
    configuration.write_text(f"nameserver {NAME_SERVER}\noptions timeout:30 attempts:2\n")
    script = f'mount --bind {configuration} /etc/resolv.conf && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *PUBSUBD]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare"
)
@pytest.mark.parametrize("option", ["peer", "http"])
def test_a_stop_does_not_wait_for_a_silent_name_server(tmp_path: Path, option: str) -> None:
    options: dict[str, Any] = {"peer": [NAMED]} if option == "peer" else {option: NAMED}
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        contextlib.closing(Broker(tmp_path, command=without_names(tmp_path), **options)) as broker,
    ):
        silent.bind((NAME_SERVER, 53))
        silent.settimeout(20)
        broker.start(wait=option == "peer")
        assert silent.recv(4096)
        if option == "peer":
            ok("publish", "t", "x", "--socket", broker.socket)
        # The harness waits for a third of the time of the look-up.
        assert broker.stop() == 0
        assert not [line for line in broker.logs if line.get("level") != "info"]
