"""`make audit` against a pip-audit of the test's own: what it says of each outcome, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from tests.unit.supply.locks import made_lock

ROOT: Final = Path(__file__).parents[3]

FINE: Final = {"name": "click", "version": "8.1", "vulns": []}
UNKNOWN: Final = {"name": "h11", "skip_reason": "Dependency not found"}
BAD: Final = {
    "name": "msgpack",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["1.1", "2.0"], "aliases": []}],
}
LOCK: Final = made_lock("click 8.1", "msgpack 1.0", "msgpack 1.1")
NO_NAME: Final = "Traceback (most recent call last):\nConnectionError: Failed to resolve 'vulnerabilities.example'"


class Outcome:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr


def audited(
    folder: Path,
    packages: Sequence[dict[str, Any]] | None,
    code: int = 0,
    error: str = "",
    gone: str = "",
) -> Outcome:
    """The audit, where pip-audit answers with these packages, or without a report.

    `gone`: the package at which the connection is lost.
    """
    lock = folder / "uv.lock"
    lock.write_text(LOCK)
    report = "" if packages is None else json.dumps({"dependencies": list(packages), "fixes": []})
    command = folder / "pip-audit"
    command.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "requirements = pathlib.Path(sys.argv[-1]).read_text()\n"
        f"with pathlib.Path({str(folder / 'asked')!r}).open('a') as asked:\n"
        "    print(*sys.argv[1:-1], *(each for each in requirements.split() if '==' in each), file=asked)\n"
        f"if {gone!r} and {gone!r} in requirements:\n"
        f"    sys.exit({NO_NAME!r})\n"
        f"sys.stdout.write({report!r})\n"
        f"sys.stderr.write({error!r})\n"
        f"sys.exit({code})\n"
    )
    command.chmod(0o755)
    return Outcome(
        subprocess.run(
            [sys.executable, "-m", "supply.audit", str(command), str(lock)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    )


def test_all_checked_and_nothing_found_is_good(tmp_path: Path) -> None:
    outcome = audited(tmp_path, [FINE, FINE | {"name": "h11"}])
    assert outcome.code == 0
    assert outcome.out == "audit: 2 packages checked, 0 known vulnerabilities\n"
    assert outcome.err == ""


def test_every_version_is_asked_about_by_its_hashes(tmp_path: Path) -> None:
    audited(tmp_path, [FINE])
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.rpartition(" --requirement ")[2] for line in asked] == [
        "click==8.1 msgpack==1.0",
        "msgpack==1.1",
    ]
    assert all("--require-hashes" in line for line in asked)


def test_a_connection_that_is_lost_on_the_way_is_a_failure(tmp_path: Path) -> None:
    outcome = audited(tmp_path, [FINE], gone="msgpack==1.1")
    assert outcome.code == 1
    assert outcome.err.startswith("audit: uv.lock was not checked: ConnectionError")
    assert outcome.out == "audit: 1 packages checked, 0 known vulnerabilities\n"


def test_a_vulnerability_fails_and_says_where_it_is_fixed(tmp_path: Path) -> None:
    outcome = audited(tmp_path, [FINE, BAD], code=1)
    assert outcome.code == 1
    assert outcome.err == "audit: msgpack 1.0: PYSEC-2026-1, fixed in 1.1, 2.0\n"


def test_a_vulnerability_fails_beside_what_was_not_checked(tmp_path: Path) -> None:
    outcome = audited(tmp_path, [UNKNOWN, BAD], code=1)
    assert outcome.code == 1
    assert "PYSEC-2026-1" in outcome.err


@pytest.mark.parametrize("packages", [None, [UNKNOWN]], ids=["no connection", "knows no package"])
def test_without_a_database_it_says_that_nothing_was_checked(
    tmp_path: Path, packages: list[dict[str, Any]] | None
) -> None:
    failed = packages is None
    outcome = audited(tmp_path, packages, code=int(failed), error=NO_NAME if failed else "No known")
    assert outcome.code == 0
    assert outcome.err.startswith("audit: not reachable, nothing was checked (")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


def test_a_part_that_was_not_checked_is_a_failure(tmp_path: Path) -> None:
    outcome = audited(tmp_path, [FINE, UNKNOWN])
    assert outcome.code == 1
    assert outcome.err == "audit: h11 was not checked: Dependency not found\n"
    assert outcome.out == "audit: 1 packages checked, 0 known vulnerabilities\n"


@pytest.mark.parametrize("packages", [None, []], ids=["no report", "an empty one"])
def test_an_audit_that_breaks_is_a_failure(
    tmp_path: Path, packages: list[dict[str, Any]] | None
) -> None:
    outcome = audited(tmp_path, packages, code=2, error="error: unrecognized arguments")
    assert outcome.code == 2
    assert "audit: pip-audit " in outcome.err


def test_a_clean_exit_without_a_report_is_a_failure(tmp_path: Path) -> None:
    outcome = audited(tmp_path, None, code=0, error="could not connect")
    assert outcome.code == 2
