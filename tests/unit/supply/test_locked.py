"""What counts as a line of a lock."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version
from supply.locked import LockError, read_lock

ONE, TWO = "1" * 64, "2" * 64


def lock_of(folder: Path, text: str) -> Path:
    path = folder / "lock.txt"
    path.write_text(text)
    return path


def test_a_package_has_its_version_its_condition_and_all_its_hashes(tmp_path: Path) -> None:
    text = f"""# made by hand
Left_Pad==1.2 ; sys_platform == 'plan9' \\
    --hash=sha256:{ONE} \\
    --hash=sha256:{TWO}
    # via something
right-pad==3 --hash=sha256:{TWO}
"""
    left, right = read_lock(lock_of(tmp_path, text))
    assert (left.name, left.version, left.hashes) == ("left-pad", Version("1.2"), (ONE, TWO))
    assert not left.wanted_here
    assert (right.name, right.version, right.hashes) == ("right-pad", Version("3"), (TWO,))
    assert right.wanted_here


@pytest.mark.parametrize(
    "line",
    [
        "click==8.1",
        f"click>=8.1 --hash=sha256:{ONE}",
        f"click --hash=sha256:{ONE}",
        f"click==8.* --hash=sha256:{ONE}",
        f"click==8.1,==8.1 --hash=sha256:{ONE}",
        f"click==8.1 --hash=sha256:{ONE[1:]}",
        f"click==8.1 --hash=md5:{ONE[:32]}",
        f"click==8.1 --hash=sha256:{ONE} --hash=md5:{ONE[:32]}",
        f"click @ https://files.example/click.whl --hash=sha256:{ONE}",
        "https://files.example/click.whl",
        "--index-url https://index.example/simple",
        "-r other.txt",
        "-e .",
        "./click",
    ],
)
def test_what_leaves_anything_open_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(LockError, match=r"lock\.txt"):
        read_lock(lock_of(tmp_path, line))
