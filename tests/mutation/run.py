"""`python -m tests.mutation.run [MODULE …]`: small changes in the modules that hold the rules. Unit tests must catch
each.

The mutation tester needs its packages side by side, so it works on a copy of the tree in `build/mutation`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {
    "pubsubd": "client",
    "pubsubd_broker": "broker",
    "pubsubd_cli": "cli",
    "pubsubd_protocol": "protocol",
}


class Subject(NamedTuple):
    """A module, and the unit tests that must catch each change in it.

    Name few tests, as all run against each change.
    """

    module: str
    judges: tuple[str, ...]


SUBJECTS: Final = {
    "acks": Subject("pubsubd/acks.py", ("client/test_resume",)),
    "attach": Subject(
        "pubsubd_protocol/attach.py",
        ("protocol/test_attach", "protocol/test_positions", "core/test_stream"),
    ),
    "bookmark": Subject(
        "pubsubd_broker/core/sessions/bookmark.py",
        ("core/test_bookmark", "core/test_reading", "core/test_session"),
    ),
    "cursor": Subject("pubsubd_broker/core/log/cursor.py", ("core/test_cursor",)),
    "inbox": Subject("pubsubd/inbox.py", ("client/test_resume",)),
    "log": Subject("pubsubd_broker/core/log/log.py", ("core/test_log",)),
    "reading": Subject(
        "pubsubd_broker/core/sessions/reading.py",
        ("core/test_reading", "core/test_session", "core/test_earliest"),
    ),
    "registry": Subject("pubsubd_broker/core/streams/registry.py", ("core/test_registry",)),
    "replica": Subject("pubsubd_broker/core/streams/replica.py", ("core/test_replica",)),
    "resume": Subject("pubsubd/resume.py", ("client/test_resume",)),
    "session": Subject(
        "pubsubd_broker/core/sessions/session.py",
        (
            "core/test_session",
            "core/test_reading",
            "core/test_session_ends",
            "core/test_named_sessions",
            "core/test_own_losses",
            "core/test_names_at_producers",
            "core/test_departed",
            "core/test_third_nodes",
        ),
    ),
    "stream": Subject(
        "pubsubd_broker/core/streams/stream.py",
        ("core/test_stream", "core/test_publishers", "core/test_keeping"),
    ),
}


def copy_tree(place: Path) -> None:
    """Copy the packages and the tests side by side, into a folder that does not exist yet."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for package, folder in PACKAGES.items():
        shutil.copytree(ROOT / folder / package, place / package, ignore=ignored)
    shutil.copytree(ROOT / "tests", place / "tests", ignore=ignored)
    (place / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "-q --import-mode=importlib"\n'
        'pythonpath = ["."]\ntimeout = 60\n'
    )


def configure(place: Path, subjects: list[Subject]) -> None:
    judges = {judge: None for subject in subjects for judge in subject.judges}
    settings = {
        "source_paths": list(PACKAGES),
        "only_mutate": [subject.module for subject in subjects],
        "also_copy": ["tests"],
        "pytest_add_cli_args": ["-n", "0"],
        "pytest_add_cli_args_test_selection": [f"tests/unit/{judge}.py" for judge in judges],
    }
    lines = ["[mutmut]"]
    for key, values in settings.items():
        lines += [f"{key}=", *(f"    {value}" for value in values)]
    (place / "setup.cfg").write_text("\n".join(lines) + "\n")


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - SUBJECTS.keys())
    if unknown:
        sys.exit(f"no such modules: {', '.join(unknown)} (there are {', '.join(SUBJECTS)})")
    place = ROOT / "build" / "mutation"
    copy_tree(place)
    configure(place, [SUBJECTS[name] for name in names or SUBJECTS])
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([mutmut, "run"], cwd=place, env=environment, check=True)
    results = subprocess.run(
        [mutmut, "results"], cwd=place, env=environment, check=True, text=True, stdout=PIPE
    )
    for survivor in results.stdout.splitlines():
        name, _, _ = survivor.strip().partition(":")
        subprocess.run([mutmut, "show", name], cwd=place, env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
