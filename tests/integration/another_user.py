"""Runs `pubsubd` as another user. Start it as root.

    python -m tests.integration.another_user UID GID GROUP,GROUP… ARGUMENT…

It loads all that a command needs before it gives up its rights: the interpreter and this tree may stand where only
root can read.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence

from tests.integration.commands import TIMEOUT_S, environment


def pubsubd_as(
    uid: int, *arguments: str, gid: int | None = None, groups: Sequence[int] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end."""
    who = [str(uid), str(uid if gid is None else gid), ",".join(map(str, groups))]
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.another_user", *who, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        env=environment(),
        check=False,
    )


def error_as(uid: int, *arguments: str, code: int) -> str:
    """Run one command that has to fail with `code`. Returns its one line on standard error."""
    done = pubsubd_as(uid, *arguments)
    assert done.returncode == code, done.stderr.decode()
    assert not done.stdout
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("pubsubd: ")
    return line


def _become(uid: int, gid: int, groups: Sequence[int]) -> None:
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def _run(uid: str, gid: str, groups: str, *arguments: str) -> int:
    import pubsubd_cli
    from pubsubd_cli.run import run

    of_the_command = [
        f"pubsubd_cli.{module.name}"
        for module in pkgutil.iter_modules(pubsubd_cli.__path__)
        if module.name != "__main__"
    ]
    for name in ("pubsubd.control", *of_the_command):
        importlib.import_module(name)
    _become(int(uid), int(gid), [int(group) for group in groups.split(",") if group])
    return run(list(arguments))


if __name__ == "__main__":
    sys.exit(_run(*sys.argv[1:]))
