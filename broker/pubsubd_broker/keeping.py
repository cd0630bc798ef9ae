"""The shell of a journal: what the core wants written is done in a thread, one piece after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from pubsubd_broker.core.config import SECOND_NS, Now
from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_broker.core.journal.recovery import Damage, Recovered, recover, unreadable
from pubsubd_broker.core.keeping import Keeper, Kept
from pubsubd_broker.core.node import Node
from pubsubd_broker.journal_folder import JournalFolder, unusable
from pubsubd_broker.settings import Settings

log = structlog.get_logger("pubsubd")

SEGMENTS_A_RING: Final = 8
"""How many segments hold as much as the ring; so much more than that is on disk."""

LEAST_SEGMENT_BYTES: Final = 64 * 1024


def open_journal(settings: Settings) -> tuple[JournalFolder, Kept] | None:
    """The folder, and what an earlier life left there; None if the settings name none. Raises `JournalError`."""
    if settings.journal is None:
        return None
    folder = JournalFolder(settings.journal)
    try:
        numbers = folder.numbers()
        recovered = recover(settings.node, folder.read())
    except BaseException:
        folder.close()
        raise
    _log_damage(recovered.damage if recovered is not None else map(unreadable, numbers))
    if recovered is not None:
        _log_recovered(settings.journal, recovered)
    interval_ns = int(settings.fsync_interval_s * SECOND_NS)
    segment_bytes = max(LEAST_SEGMENT_BYTES, settings.ring_bytes // SEGMENTS_A_RING)
    kept = Kept(Fsync(settings.fsync), interval_ns, segment_bytes, recovered, numbers)
    return folder, kept


class Writer:
    """Does a node's journal work. What it has not begun when it is closed is not done."""

    def __init__(
        self,
        node: Node,
        folder: JournalFolder,
        clocks: Callable[[], Now],
        changed: Callable[[], None],
    ) -> None:
        """`changed`: the node may have something to send. Raises `JournalError` if the first step fails."""
        assert node.keeper is not None
        self._node = node
        self._keeper: Keeper = node.keeper
        self._folder = folder
        self._clocks = clocks
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "pubsubd-journal")
        self._under_way: asyncio.Future[float | None] | None = None
        self._closing = False
        try:
            folder.tidy()
            self._observe(folder.perform(self._keeper.begin()))
        except OSError as error:
            raise unusable(folder.path, error) from error

    def go_on(self, now: Now) -> None:
        """Begins what there is to do, unless something is under way."""
        if self._under_way is not None or self._closing:
            return
        work = self._keeper.take(now)
        if work is not None:
            self._under_way = self._loop.run_in_executor(self._thread, self._folder.perform, work)
            self._under_way.add_done_callback(self._done)

    async def close(self) -> None:
        """Everything that was accepted is on disk, or it is logged why not, and the node's `failure`; the folder is free."""
        # What is left goes last, in one piece.
        self._closing = True
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        keeper = self._keeper
        try:
            if keeper.journal.fsync is Fsync.SNAPSHOT:
                self._folder.perform(keeper.snapshot())
            else:
                keeper.tick()
                work = keeper.take(self._clocks(), last=True)
                if work is not None:
                    self._folder.perform(work)
        except OSError as error:
            keeper.failed(str(error))
            log.error("journal.failed", reason=str(error))
        self._thread.shutdown()
        self._folder.close()

    def _done(self, done: asyncio.Future[float | None]) -> None:
        self._under_way = None
        error = done.exception()
        if error is not None:
            self._keeper.failed(str(error))
        else:
            self._observe(done.result())
            self._keeper.done(self._clocks())
        self._changed()

    def _observe(self, synced_s: float | None) -> None:
        if synced_s is not None:
            self._node.counters.journal_fsync_seconds.observe(synced_s)


def _log_damage(found: Iterable[Damage]) -> None:
    for damage in found:
        log.warning(
            "journal.damaged",
            segment=damage.segment,
            what=damage.what,
            lost_from=damage.lost.start if damage.lost else None,
            lost_to=damage.lost.stop if damage.lost else None,
        )


def _log_recovered(path: str, recovered: Recovered) -> None:
    log.info(
        "journal.recovered",
        journal=path,
        epoch=recovered.state.epoch.hex(),
        oldest=recovered.first,
        next=recovered.next,
        messages=sum(entry.count for entry in recovered.entries),
        consumers=len(recovered.state.consumers),
        sessions=len(recovered.state.sessions),
    )
