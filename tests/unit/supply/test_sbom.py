"""The bill of materials: what a wheel brings, no more and no less, in the form that CycloneDX asks for."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from supply import sbom
from supply.locked import Lock

from pubsubd_protocol import __version__

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[3]
LOCK: Final = ROOT / "uv.lock"
WHEEL: Final = b"what was built"
PROJECT: Final = f"pkg:pypi/pubsubd@{__version__}"


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, epoch: str, lock: Path = LOCK) -> str:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    (folder / "wheel").write_bytes(WHEEL)
    sbom.main(str(lock), str(folder / "wheel"), str(folder / "bom.json"))
    return (folder / "bom.json").read_text()


@pytest.fixture
def bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    bill: dict[str, Any] = json.loads(made(tmp_path, monkeypatch, "1700000000"))
    return bill


def test_it_has_the_fields_that_cyclonedx_asks_for(bill: dict[str, Any]) -> None:
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["specVersion"] == "1.6"
    assert bill["version"] == 1
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    for component in [bill["metadata"]["component"], *bill["components"]]:
        assert component["type"] in {"application", "library"}
        assert component["name"]
        assert component["purl"] == component["bom-ref"]


def test_it_lists_each_package_with_its_version_and_hashes(
    bill: dict[str, Any],
) -> None:
    listed = {
        (each["purl"], frozenset(one["content"] for one in each["hashes"]))
        for each in bill["components"]
    }
    assert len(listed) == len(bill["components"])
    assert listed == {
        (f"pkg:pypi/{each.name}@{each.version}", frozenset(each.hashes))
        for each in Lock(LOCK).of("run")
        if sbom.is_wanted_here(each)
    }
    hashes = [one for each in bill["components"] for one in each["hashes"]]
    assert {one["alg"] for one in hashes} == {"SHA-256"}


def test_every_component_has_a_licence(bill: dict[str, Any]) -> None:
    for component in [bill["metadata"]["component"], *bill["components"]]:
        said = [
            each.get("expression") or each["license"].get("id") or each["license"]["name"]
            for each in component["licenses"]
        ]
        assert said, component["name"]
        assert all(said), component["name"]


def test_the_project_is_named_by_the_hash_of_its_wheel(bill: dict[str, Any]) -> None:
    project = bill["metadata"]["component"]
    assert project["purl"] == PROJECT
    assert project["licenses"] == [{"license": {"id": "MIT"}}]
    digest = hashlib.sha256(WHEEL).hexdigest()
    assert project["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_it_says_who_needs_whom(bill: dict[str, Any]) -> None:
    needs = {each["ref"]: set(each.get("dependsOn", [])) for each in bill["dependencies"]}
    purls = {each["purl"] for each in bill["components"]}
    assert needs.keys() == purls | {PROJECT}
    assert {name for needed in needs.values() for name in needed} == purls
    assert {purl.partition("@")[0] for purl in needs[PROJECT]} >= {"pkg:pypi/click", "pkg:pypi/h11"}


def test_only_its_time_differs_from_run_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(tmp_path, monkeypatch, "1700000000")
    assert made(tmp_path, monkeypatch, "1700000000") == first
    later = json.loads(made(tmp_path, monkeypatch, "1700000001"))
    again = json.loads(first)
    assert later["metadata"].pop("timestamp") != again["metadata"].pop("timestamp")
    assert later == again


@pytest.mark.parametrize(
    "change",
    [
        lambda text: re.sub(r'(name = "h11"\nversion = ")', r"\g<1>0.", text),
        lambda text: text.replace('    { name = "uvloop" },\n', "", 1),
    ],
    ids=["another version", "one is missing"],
)
def test_a_lock_that_is_not_what_is_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    lock = tmp_path / "lock.txt"
    text = change(LOCK.read_text())
    assert text != LOCK.read_text()
    lock.write_text(text)
    with pytest.raises(sbom.Mismatch, match="locked"):
        made(tmp_path, monkeypatch, "1700000000", lock)
