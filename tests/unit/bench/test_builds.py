"""Each contestant of ours runs the build that it is named after, or the result says that it does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest
from bench import report
from bench.builds import Build, build_of, installed
from bench.compare import lines
from bench.contestants import BY_NAME
from tests.unit.bench.made_up import result

COMPILED, PLAIN = Path("/compiled/bin/python"), Path("/plain/bin/python")
RATES: Final = {"100b": {"pubsubd": [2.0], "pubsubd-interpreted": [1.0]}}


def answering(folder: Path, answer: str) -> Path:
    """A stand-in for a Python whose pubsubd gives this answer."""
    python = folder / answer.lower()
    python.write_text(f"#!/bin/sh\necho {answer}\n")
    python.chmod(0o755)
    return python


def test_a_build_is_what_its_own_python_says(tmp_path: Path) -> None:
    compiled, plain = answering(tmp_path, "True"), answering(tmp_path, "False")
    assert installed([plain, compiled]) == {"interpreted": plain, "compiled": compiled}
    assert installed([plain, tmp_path / "nowhere"]) == {"interpreted": plain}


def test_a_second_interpreted_build_is_not_called_compiled(tmp_path: Path) -> None:
    plain = answering(tmp_path, "False")
    also = answering(tmp_path, "Perhaps")
    assert installed([plain, also]) == {"interpreted": plain}


def test_this_python_has_a_build() -> None:
    assert build_of(Path(sys.executable)) is not None


def test_each_form_runs_on_the_python_of_its_build() -> None:
    pythons: dict[Build, Path] = {"interpreted": PLAIN, "compiled": COMPILED}
    placed = {name: BY_NAME[name].on(pythons) for name in BY_NAME}
    assert placed["pubsubd"].python == placed["pubsubd-bulk"].python == (str(COMPILED),)
    assert placed["pubsubd-interpreted"].python == (str(PLAIN),)
    assert placed["nats-core"].python == placed["floor"].python == (sys.executable,)
    assert placed["pubsubd-interpreted"].missing(pythons) is None


def test_without_a_compiled_build_ours_is_interpreted_and_once() -> None:
    pythons: dict[Build, Path] = {"interpreted": PLAIN}
    ours = BY_NAME["pubsubd"].on(pythons)
    assert (ours.build, ours.python) == ("interpreted", (str(PLAIN),))
    assert ours.missing(pythons) is None
    assert "only one build" in (BY_NAME["pubsubd-interpreted"].missing(pythons) or "")


@pytest.mark.parametrize(
    ("build", "said"),
    [("compiled", "pubsubd ran compiled."), ("interpreted", "**pubsubd ran interpreted**")],
)
def test_the_report_says_which_build_ran(build: str, said: str) -> None:
    made = result(RATES)
    made.builds["pubsubd"] = build
    assert said in report.fragment(made, "plots")
    assert f"- **pubsubd** ({build}): " in report.fragment(made, "plots")
    assert f"pubsubd ran {build}" in report.text(made)


def test_the_interpreted_form_has_a_ratio_beside_the_others() -> None:
    assert "| pubsubd-interpreted | **2.0×** |" in report.fragment(result(RATES), "plots")


def test_a_comparison_says_that_the_build_is_another() -> None:
    now = result(RATES)
    now.builds.update({"pubsubd": "compiled", "pubsubd-interpreted": "interpreted"})
    said = [line for line in lines(result(RATES), now) if " was " in line]
    assert said == ["  pubsubd was interpreted, and is compiled now."]
