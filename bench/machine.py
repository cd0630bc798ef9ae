"""The machine of a result, and the versions of its software."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from bench.processes import ROOT
from bench.servers.nats import nats_server
from bench.servers.redis import redis_server

PACKAGES: Final = ("pubsubd", "uvloop", "msgpack", "nats-py", "redis", "hiredis")


def short_host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0]) or "host"


def machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 1024**3, 1),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def versions() -> dict[str, str]:
    """The versions of installed packages and servers; a missing one has no entry."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for name, binary in (("nats-server", nats_server()), ("redis-server", redis_server())):
        if binary is not None:
            said = _said([binary, "--version"])
            number = re.search(r"\d+\.\d+\.\d+", said)
            found[name] = number.group() if number else said
    return found


def commit() -> dict[str, Any]:
    """The commit that was measured. `changed`: the tree had changes that are in no commit."""
    return {
        "commit": _said(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or None,
        "changed": bool(
            _said(["git", "-C", str(ROOT), "status", "--porcelain", "broker", "client", "protocol"])
        ),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
