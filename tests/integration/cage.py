"""Commands in a file system of their own, like a container's: read-only but for some folders, without capabilities.

    cage = Cage(tmp_path, writable=[folder])
    Broker(tmp_path, command=[*cage.prefix, *PUBSUBD])

The process is the command's own, and sees the same paths as the test. Needs root. In the cage are the system's
programs and libraries, this Python, these sources, and the writable folders. /tmp, /proc, /dev and /home are missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

UID: Final = 10001
"""The ids of the image's user and its group."""

_SOURCES: Final = Path(__file__).parents[2]
_SYSTEM: Final = tuple(Path(path) for path in ("/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr"))
_TOOLS: Final = ("unshare", "mount", "chroot", "setpriv", "env")
_DROP_ALL: Final = (
    *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--no-new-privs"),
    *("--bounding-set", "-all", "--inh-caps", "-all", "--ambient-caps", "-all"),
)


class Cage:
    """`folder`: the place where the file system is put together, as `root`. Outside of the cage it stays empty."""

    def __init__(
        self, folder: Path, writable: Sequence[Path], readable: Sequence[Path] = ()
    ) -> None:
        self.root = folder / "cage"
        self.root.mkdir()
        script = folder / "cage.sh"
        script.write_text(self._script(writable, readable))
        self.prefix: tuple[str, ...] = (
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-eu", str(script)),
        )

    def _script(self, writable: Sequence[Path], readable: Sequence[Path]) -> str:
        root = self.root
        lines = [f"mount -t tmpfs -o mode=0755 none {root}"]
        for path in _SYSTEM:
            if path.is_symlink():
                lines.append(f"ln -s {path.readlink()} {root}{path}")
            elif path.is_dir():
                lines += self._bound(path, "ro,")
        python = (Path(sys.base_prefix), Path(sys.prefix))
        for path in dict.fromkeys([*python, _SOURCES, *readable]):
            lines += self._bound(path, "ro,")
        for path in writable:
            lines += self._bound(path, "")
        lines += [f"mount -o remount,ro {root}", f'exec chroot {root} {" ".join(_DROP_ALL)} "$@"']
        return "\n".join(lines) + "\n"

    def _bound(self, path: Path, mode: str) -> list[str]:
        there = f"{self.root}{path}"
        return [
            f"mkdir -p {there}",
            f"mount --bind {path} {there}",
            f"mount -o remount,bind,{mode}nosuid,nodev {there}",
        ]


def missing() -> str | None:
    """The reason why a cage cannot be made here; None if it can."""
    if os.geteuid() != 0:
        return "a file system of its own needs root"
    for command in _TOOLS:
        if shutil.which(command) is None:
            return f"`{command}` is not installed"
    tried = subprocess.run(
        ["unshare", "--mount", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        return f"unshare --mount: {tried.stderr.strip()}"
    if _SOURCES.stat().st_mode & 0o005 != 0o005:
        return f"{_SOURCES} is closed to other users"
    return None
