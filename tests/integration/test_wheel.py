"""Wheels that are not compiled. The compiled one is tested by make test-compiled."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--verbose", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)),
        ],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"PUBSUBD_PURE": "1"}, "PUBSUBD_PURE=1"),
        ({"CC": "/nowhere/cc"}, "a C compiler is missing: /nowhere/cc is not found"),
    ],
)
def test_a_wheel_that_is_not_compiled_says_so(
    environment: dict[str, str], why: str, tmp_path: Path
) -> None:
    done = build(tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert f"pubsubd: not compiled: {why}" in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ("0", "a C compiler is missing: /nowhere/cc is not found"),
        ("yes", "PUBSUBD_PURE=yes: 0 compiles, 1 does not"),
    ],
)
def test_a_wish_that_cannot_be_met_fails_the_build(wish: str, why: str, tmp_path: Path) -> None:
    done = build(tmp_path, PUBSUBD_PURE=wish, CC="/nowhere/cc")
    assert done.returncode != 0
    assert why in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.whl"))


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"CC": sys.executable}, True),
        ({"CC": sys.executable, "PUBSUBD_PURE": "1"}, False),
        ({"CC": "/nowhere/cc"}, False),
    ],
)
def test_only_a_compiling_build_asks_for_mypyc(environment: dict[str, str], asked: bool) -> None:
    script = "from hatchling.build import get_requires_for_build_wheel as get; print(get())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("mypy" in done.stdout, "setuptools" in done.stdout) == (asked, asked)
