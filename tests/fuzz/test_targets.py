"""Known, drawn and changed inputs are refused at most; they do no harm.

The inputs are the same every time and take about half a minute. `make fuzz` tries further ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.fuzz import corpus, run
from tests.fuzz.corpus import FOLDER, add, archive_of, everything, keep, kept
from tests.fuzz.drawn import BY_TARGET
from tests.fuzz.mutating import some
from tests.fuzz.play import name_of, play
from tests.fuzz.target import TARGETS, Target

MUTATED: Final = {
    "codec": 20_000,
    "framing": 6_000,
    "handshake": 800,
    "recovery": 800,
    "admin": 1_000,
}
DRAWN: Final = {"codec": 500, "framing": 150, "handshake": 100, "recovery": 80, "admin": 200}

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


@each_target
def test_known_inputs_do_no_harm(target: Target) -> None:
    known = everything(target)
    assert len(known) > 10
    # Measure the memory of each input; of one in six where measuring takes four times as long as all the rest.
    every = 6 if target.name == "handshake" else 1
    assert play(target, known, measure_every=every).inputs == len(known)


@each_target
def test_drawn_inputs_do_no_harm(target: Target) -> None:
    @settings(
        max_examples=DRAWN[target.name],
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(BY_TARGET[target.name])
    def does_no_harm(data: bytes) -> None:
        play(target, [data])

    does_no_harm()


@each_target
def test_changed_inputs_do_no_harm(target: Target) -> None:
    assert play(target, some(target, 1, MUTATED[target.name])).inputs == MUTATED[target.name]


def test_the_corpus_is_small_and_named_by_its_content() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {f"{name}.zip" for name in TARGETS}
    for target in TARGETS.values():
        with ZipFile(archive_of(target)) as archive:
            assert archive.namelist() == sorted(map(name_of, kept(target)))
        assert all(len(data) <= target.longest for data in kept(target))
    assert sum(len(data) for target in TARGETS.values() for data in kept(target)) < 2**20


@pytest.fixture
def no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "corpus")


@pytest.mark.usefixtures("no_corpus")
def test_an_input_is_kept_once() -> None:
    codec = TARGETS["codec"]
    assert add(codec, [b"b", b"a", b"b"]) == 2
    assert add(codec, [b"c", b"a"]) == 1
    assert sorted(kept(codec)) == [b"a", b"b", b"c"]
    assert keep(codec, [b"c", b"d"]) == 1
    assert sorted(kept(codec)) == [b"c", b"d"]


@pytest.mark.usefixtures("no_corpus")
def test_the_same_inputs_give_the_same_archive() -> None:
    codec, framing = TARGETS["codec"], TARGETS["framing"]
    add(codec, [b"a", b"b"])
    add(framing, [b"b"])
    add(framing, [b"a"])
    assert archive_of(codec).read_bytes() == archive_of(framing).read_bytes()


@pytest.mark.usefixtures("no_corpus")
def test_the_command_adds_what_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found").write_bytes(b"\0\0")
    asked = ["run", "--target", "codec", "--add", str(tmp_path / "found")]
    monkeypatch.setattr(sys, "argv", asked)
    assert run.main() == 0
    assert kept(TARGETS["codec"]) == [b"\0\0"]


@each_target
def test_a_seed_gives_the_same_inputs(target: Target) -> None:
    assert list(some(target, 7, 50)) == list(some(target, 7, 50))
    assert list(some(target, 7, 50)) != list(some(target, 8, 50))
