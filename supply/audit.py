"""Asks for known vulnerabilities of all locked packages, and prints the outcome: `python -m supply.audit PIP_AUDIT
LOCK`

pip-audit's own answer is not enough. For packages that its service does not know, it says that no vulnerability was
found, and ends with 0. Here a package counts as checked only if it was checked.

Exit code 0: all checked and no vulnerability found; or the service cannot be reached, and standard error says so. 1:
a vulnerability, or some packages could not be checked. 2: pip-audit itself failed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from supply.export import requirements
from supply.locked import Lock, Locked

OK: Final = 0
FOUND: Final = 1
FAILED: Final = 2

_OPTIONS: Final = (
    "--format",
    "json",
    "--progress-spinner",
    "off",
    "--require-hashes",
    "--disable-pip",
)
_NO_CONNECTION: Final = re.compile(r"connect|resolve|timed out|unreachable", re.IGNORECASE)


def audit(pip_audit: str, lock: Path) -> int:
    """Prints the outcome, a line for each package with a remark. Returns the exit code."""
    packages: dict[tuple[str, str], dict[str, Any]] = {}
    with TemporaryDirectory() as folder:
        for number, asked in enumerate(one_version_each(Lock(lock).all())):
            file = Path(folder, f"{number}.txt")
            file.write_text(requirements(asked))
            command = [pip_audit, *_OPTIONS, "--requirement", str(file)]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            try:
                for package in _report(lock.name, answer):
                    packages[package["name"], package.get("version", "")] = package
            except (ValueError, KeyError, TypeError):
                _say(f"audit: pip-audit failed on {lock.name}, exit code {answer.returncode}")
                _say(answer.stderr.strip())
                return FAILED
    return _judge(list(packages.values()))


def one_version_each(packages: Iterable[Locked]) -> list[list[Locked]]:
    """The packages in rows with one version of each: pip-audit refuses two."""
    rows: list[dict[str, Locked]] = []
    for package in packages:
        row = next((row for row in rows if package.name not in row), None)
        if row is None:
            rows.append(row := {})
        row[package.name] = package
    return [list(row.values()) for row in rows]


def _report(lock: str, answer: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The packages of pip-audit's report. Without a connection the lock itself counts as skipped."""
    if answer.returncode != 0 and not answer.stdout and _NO_CONNECTION.search(answer.stderr):
        return [{"name": lock, "skip_reason": answer.stderr.strip().rpartition("\n")[2]}]
    packages: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    return packages


def _judge(packages: list[dict[str, Any]]) -> int:
    skipped = [package for package in packages if "skip_reason" in package]
    checked = [package for package in packages if "skip_reason" not in package]
    if not packages:
        _say("audit: pip-audit was given no package")
        return FAILED
    if not checked:
        return _not_reachable(skipped[0]["skip_reason"])
    vulnerable = list(_vulnerable(checked))
    for line in vulnerable:
        _say(f"audit: {line}")
    for package in skipped:
        _say(f"audit: {package['name']} was not checked: {package['skip_reason']}")
    names = {package["name"] for package in checked}
    print(f"audit: {len(names)} packages checked, {len(vulnerable)} known vulnerabilities")
    return FOUND if vulnerable or skipped else OK


def _vulnerable(packages: Iterable[dict[str, Any]]) -> Iterable[str]:
    for package in packages:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}"


def _not_reachable(why: str) -> int:
    _say(f"audit: not reachable, nothing was checked ({why})")
    return OK


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1], Path(sys.argv[2])))
