"""Reading a lock: which packages a group needs, where, and what of a lock is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from supply.export import requirements
from supply.locked import Lock, LockError
from tests.unit.supply.locks import ONE, TWO, made_lock, wheels

WINDOWS = "sys_platform == 'win32'"
OLD = "python_full_version < '3.12'"


def lock_of(folder: Path, text: str) -> Lock:
    path = folder / "uv.lock"
    path.write_text(text)
    return Lock(path)


def exported(folder: Path, text: str, group: str = "run") -> list[str]:
    """The lines of the export without their hashes."""
    lines = requirements(lock_of(folder, text).of(group)).splitlines()
    return [line.removesuffix(" \\") for line in lines if "--hash" not in line]


def test_a_package_is_exported_with_its_marker_and_all_its_hashes(tmp_path: Path) -> None:
    text = made_lock(
        f"left-pad 1.2\n{wheels(TWO, ONE)}",
        needed=[f'{{ name = "left-pad", marker = "{WINDOWS}" }}'],
    )
    assert requirements(lock_of(tmp_path, text).of("run")) == (
        f"left-pad==1.2 ; ({WINDOWS}) \\\n    --hash=sha256:{ONE} \\\n    --hash=sha256:{TWO}\n"
    )


def test_what_a_package_needs_is_needed_where_both_markers_hold(tmp_path: Path) -> None:
    text = made_lock(
        f'a 1\ndependencies = [{{ name = "b", marker = "{OLD}" }}]',
        'b 2\ndependencies = [{ name = "a" }]',
        needed=[f'{{ name = "a", marker = "{WINDOWS}" }}'],
    )
    assert exported(tmp_path, text) == [f"a==1 ; ({WINDOWS})", f"b==2 ; (({OLD}) and ({WINDOWS}))"]


def test_a_package_is_needed_wherever_one_way_leads_to_it(tmp_path: Path) -> None:
    first = f'{{ name = "a", marker = "{WINDOWS}" }}'
    second = f'{{ name = "b", marker = "{OLD}" }}'
    b = 'b 2\ndependencies = [{ name = "a" }]'
    text = made_lock("a 1", b, needed=[first, second])
    assert exported(tmp_path, text) == [f"a==1 ; ({OLD}) or ({WINDOWS})", f"b==2 ; ({OLD})"]
    text = made_lock("a 1", b, needed=[first, '{ name = "b" }'])
    assert exported(tmp_path, text) == ["a==1", "b==2"]


def test_an_extra_brings_what_it_needs(tmp_path: Path) -> None:
    a = 'a 1\n[package.optional-dependencies]\nfast = [{ name = "b" }]'
    assert exported(tmp_path, made_lock(a, "b 2", needed=['{ name = "a" }'])) == ["a==1"]
    with_extra = made_lock(a, "b 2", needed=['{ name = "a", extra = ["fast"] }'])
    assert exported(tmp_path, with_extra) == ["a==1", "b==2"]


def test_two_versions_are_told_apart(tmp_path: Path) -> None:
    needed = [
        f'{{ name = "a", version = "1", marker = "{OLD}" }}',
        f'{{ name = "a", version = "2", marker = "{WINDOWS}" }}',
    ]
    text = made_lock("a 1", "a 2", needed=needed)
    assert exported(tmp_path, text) == [f"a==1 ; ({OLD})", f"a==2 ; ({WINDOWS})"]
    assert [each.version for each in lock_of(tmp_path, text).all()] == ["1", "2"]


def test_a_group_brings_its_own_packages_only(tmp_path: Path) -> None:
    more = '[package.dev-dependencies]\ndev = [{ name = "b" }]'
    text = made_lock("a 1", "b 2", needed=['{ name = "a" }'], more=more)
    assert exported(tmp_path, text, "dev") == ["b==2"]
    assert lock_of(tmp_path, text).groups == ["run", "dev"]
    with pytest.raises(LockError, match="group 'tests' is unknown"):
        lock_of(tmp_path, text).of("tests")


@pytest.mark.parametrize(
    "package",
    [
        "a 1\nwheels = []",
        f"a 1\n{wheels(ONE[1:])}",
        'a 1\nwheels = [{ hash = "md5:0123456789abcdef0123456789abcdef" }]',
        'a 1\nwheels = [{ url = "https://files.example/a.whl" }]',
        'a 1\nsource = { registry = "https://index.example/simple" }',
        'a 1\nsource = { url = "https://files.example/a.whl" }',
        'a 1\nsource = { git = "https://git.example/a" }',
        "b 1",
    ],
)
def test_what_leaves_anything_open_is_refused(tmp_path: Path, package: str) -> None:
    lock = lock_of(tmp_path, made_lock(package, needed=['{ name = "a" }']))
    with pytest.raises(LockError, match=r"uv\.lock"):
        lock.of("run")


def test_a_lock_of_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="version 2 is unknown"):
        lock_of(tmp_path, made_lock("a 1").replace("version = 1", "version = 2", 1))
