"""`python -m tests.mutation.run [MODULE …]`: small changes in the modules that hold the rules; unit tests have to see each.

The mutation tester wants its packages side by side, so it works on a copy of the tree in `build/mutation`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {
    "pubsubd": "client",
    "pubsubd_broker": "broker",
    "pubsubd_cli": "cli",
    "pubsubd_protocol": "protocol",
}
MODULES: Final = {
    "attach": "pubsubd_protocol/attach.py",
    "cursor": "pubsubd_broker/core/cursor.py",
    "inbox": "pubsubd/inbox.py",
    "log": "pubsubd_broker/core/log.py",
    "reading": "pubsubd_broker/core/reading.py",
    "registry": "pubsubd_broker/core/registry.py",
    "replica": "pubsubd_broker/core/replica.py",
    "resume": "pubsubd/resume.py",
}
JUDGES: Final = (
    "tests/unit/protocol/test_attach.py",
    "tests/unit/protocol/test_positions.py",
    "tests/unit/core/test_registry.py",
    "tests/unit/core/test_cursor.py",
    "tests/unit/core/test_log.py",
    "tests/unit/core/test_reading.py",
    "tests/unit/core/test_replica.py",
    "tests/unit/core/test_session.py",
    "tests/unit/core/test_stream.py",
    "tests/unit/core/test_links.py",
    "tests/unit/client/test_resume.py",
    "tests/unit/client/test_small_parts.py",
)


def copy_tree(place: Path) -> None:
    """Lays the packages and the tests side by side, where there was nothing."""
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


def configure(place: Path, modules: list[str]) -> None:
    settings = {
        "source_paths": list(PACKAGES),
        "only_mutate": modules,
        "also_copy": ["tests"],
        "pytest_add_cli_args": ["-n", "0"],
        "pytest_add_cli_args_test_selection": list(JUDGES),
    }
    lines = ["[mutmut]"]
    for key, values in settings.items():
        lines += [f"{key}=", *(f"    {value}" for value in values)]
    (place / "setup.cfg").write_text("\n".join(lines) + "\n")


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - MODULES.keys())
    if unknown:
        sys.exit(f"no such modules: {', '.join(unknown)} (there are {', '.join(MODULES)})")
    place = ROOT / "build" / "mutation"
    copy_tree(place)
    configure(place, [MODULES[name] for name in names or MODULES])
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([mutmut, "run"], cwd=place, env=environment, check=True)
    return subprocess.run([mutmut, "results"], cwd=place, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
