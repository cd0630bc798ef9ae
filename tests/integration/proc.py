"""The kernel's figures of a process: memory, descriptors, CPU time. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def memory_kib(pid: int, field: str = "VmRSS") -> int:
    """Resident memory; with "VmHWM" its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise LookupError(field)


@contextmanager
def steady_memory(pid: int, within_kib: int) -> Iterator[None]:
    """Fails if the process takes more than `within_kib` beyond its present memory, even for a moment."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # Reset the peak: it is measured from here.
    before = memory_kib(pid)
    yield
    taken = memory_kib(pid, "VmHWM") - before
    assert taken <= within_kib, f"{taken} KiB were taken, allowed are {within_kib}"


def descriptors(pid: int) -> int:
    """The number of open descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(pid: int) -> float:
    """CPU time that it has used, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
