"""A secret file is refused if another user can read or change it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.other_users import OURS, STRANGER, acting_as, folder_for_all, needs_root

from pubsubd_broker.trust.secret_files import (
    MAX_SECRET_BYTES,
    SecretError,
    SecretFile,
    exposure,
    read_secret,
)

SECRET = b"0123456789abcdef"


def written(path: Path, content: bytes = SECRET, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (SECRET, SECRET),
        (SECRET + b"\n", SECRET),
        (SECRET + b"\n\n", SECRET + b"\n"),
        (SECRET + b" ", SECRET + b" "),
        (b"\n" + SECRET, b"\n" + SECRET),
        (bytes(range(256)), bytes(range(256))),
        (b"x" * MAX_SECRET_BYTES + b"\n", b"x" * MAX_SECRET_BYTES),
    ],
)
def test_it_is_what_stands_in_the_file_without_the_end_of_a_line(
    tmp_path: Path, content: bytes, secret: bytes
) -> None:
    assert read_secret(written(tmp_path / "s", content)) == secret


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "0 bytes are too easily guessed: write at least 16 random ones"),
        (b"\n", "0 bytes"),
        (SECRET[1:], "15 bytes"),
        (SECRET[1:] + b"\n", "15 bytes"),
        (b"x" * (MAX_SECRET_BYTES + 1), "more than 4096 bytes: give the file of the secret"),
        (b"x" * MAX_SECRET_BYTES + b"\n\n", "more than 4096 bytes"),
        (b"x" * 1_000_000, "more than 4096 bytes"),
    ],
)
def test_too_short_or_too_long_is_none(tmp_path: Path, content: bytes, problem: str) -> None:
    path = written(tmp_path / "s", content)
    with pytest.raises(SecretError, match=problem) as caught:
        read_secret(path)
    assert path in str(caught.value)
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440, 0o700])
def test_the_owner_and_a_group_may_read(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "s", mode=mode)
    assert exposure(os.stat(path)) is None
    assert read_secret(path) == SECRET


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o660, 0o644, 0o666])
def test_what_others_can_read_or_a_group_can_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "s", mode=mode)
    assert f"mode {mode:04o} lets others" in str(exposure(os.stat(path)))
    with pytest.raises(SecretError, match=f"mode {mode:04o} .*chmod it to 0600"):
        read_secret(path)


def test_a_link_is_followed_as_mounted_ones_are(tmp_path: Path) -> None:
    (tmp_path / "..data").symlink_to("..2024")
    (tmp_path / "..2024").mkdir()
    written(tmp_path / "..2024" / "secret")
    (tmp_path / "secret").symlink_to("..data/secret")
    assert read_secret(str(tmp_path / "secret")) == SECRET
    (tmp_path / "..2024" / "secret").chmod(0o644)
    with pytest.raises(SecretError, match="mode 0644"):
        read_secret(str(tmp_path / "secret"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_a_path_that_is_not_a_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "folder":
        path.mkdir(0o700)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(SecretError, match="not a regular file"):
        read_secret(str(path))


def test_one_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match=r"/none: No such file or directory: give the path"):
        read_secret(str(tmp_path / "none"))


@needs_root
def test_whose_it_is_matters() -> None:
    with folder_for_all() as folder:
        path = written(folder / "s", mode=0o640)
        for owner in (OURS, 0):
            os.chown(path, owner, OURS)
            with acting_as(OURS):
                assert read_secret(path) == SECRET
        os.chown(path, STRANGER, OURS)
        with (
            acting_as(OURS),
            pytest.raises(SecretError, match=f"uid {STRANGER}, we are {OURS}"),
        ):
            read_secret(path)
        with pytest.raises(SecretError, match=f"uid {STRANGER}, we are 0"):
            read_secret(path)
        os.chown(path, 0, 0)
        with acting_as(OURS), pytest.raises(SecretError, match=r"Permission denied.*uid 54321"):
            read_secret(path)


def test_a_replaced_secret_counts_after_two_looks_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    first, second = b"1" * 32, b"2" * 32

    def put(secret: bytes) -> None:
        path.write_bytes(secret)
        path.chmod(0o600)

    put(first)
    file = SecretFile(str(path))
    assert not file.refresh()
    # As while it is being written: what is there for a moment is never taken.
    put(second[:20])
    assert not file.refresh()
    put(second)
    assert not file.refresh()
    assert file.value == first
    assert file.refresh()
    assert file.value == second
    assert not file.refresh()
    path.unlink()
    with pytest.raises(SecretError, match="No such file"):
        file.refresh()
    assert file.value == second
    put(second)
    assert not file.refresh()
