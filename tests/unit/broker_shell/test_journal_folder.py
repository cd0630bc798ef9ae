"""A journal's folder does on disk what it is told, and has it durable when it says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pubsubd_broker.core.journal.journal import Create, Remove, Work
from pubsubd_broker.journal_folder import JournalFolder


@pytest.mark.parametrize("sync", [True, False])
def test_a_removed_segment_is_gone_for_good_if_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    folder = JournalFolder(str(tmp_path))
    folder.perform(Work(True, [Create(1, [b"a snapshot"])]))
    folder.close()
    again = JournalFolder(str(tmp_path))
    synced: list[tuple[str, list[str]]] = []

    def fsync(file: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{file}"), sorted(os.listdir(tmp_path))))

    monkeypatch.setattr(os, "fsync", fsync)
    again.perform(Work(sync, [Remove(1)]))
    # The folder, as it is without the segment: else it may be back after a power loss.
    assert synced == ([(str(tmp_path), ["lock"])] if sync else [])
    again.close()
