"""Journal writer: writes in a thread, piece by piece, what the core wants on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog

from pubsubd_broker.core.journal.journal import Work
from pubsubd_broker.core.journal.keeper import Keeper
from pubsubd_broker.core.journal.recovery import JournalError
from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.node import Node
from pubsubd_broker.journal.folder import JournalFolder, failed_for_good, unusable, unwritten
from pubsubd_broker.journal.life_place import mend
from pubsubd_broker.journal.life_record import DiskRecord
from pubsubd_broker.journal.opening import LOST, open_folder

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger("pubsubd")


class JournalWriter:
    """Does a node's journal work, all of it in one thread: a disk that hangs stops nothing else."""

    def __init__(
        self,
        node: Node,
        folder: JournalFolder,
        clocks: Callable[[], Now],
        changed: Callable[[], None],
        record: DiskRecord | None = None,
    ) -> None:
        """`changed`: the node may have something to send. `record`: of this node's lives."""
        assert node.keeper is not None
        self._node = node
        self._keeper: Keeper = node.keeper
        self._folder = folder
        self._clocks = clocks
        self._changed = changed
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "pubsubd-journal")
        self._under_way: asyncio.Future[float | None] | None = None
        self._looks: set[asyncio.Future[Any]] = set()
        self._closing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """The new life is on disk, and a snapshot is used up. Raises `JournalError`."""
        try:
            await self._in_thread(self._folder.tidy)
            if self._folder.unknown:
                await self._in_thread(_set_aside, self._folder)
            self._observe(await self._in_thread(self._folder.perform, self._keeper.begin()))
        except OSError as error:
            raise unusable(self._folder.path, error) from error

    def go_on(self, now: Now) -> None:
        """Begins what there is to do, unless something is under way. A snapshot waits for the stop."""
        if self._under_way is not None or self._closing is not None or not self._keeper.writes:
            return
        work = self._keeper.take(now)
        if work is not None:
            self._under_way = self._loop.run_in_executor(self._thread, self._folder.perform, work)
            self._under_way.add_done_callback(self._done)

    async def look(self) -> str | None:
        """Reason why the folder cannot keep all that it ought to; None if it can. A fault that fails a write fails here, too.

        Where nothing is written before the stop, a folder that was removed is made anew.
        """
        journal = self._keeper.journal
        if self._closing is not None or journal.failed is not None:
            return None
        try:
            trouble = await self._looking(self._look, journal.numbers)
        except (JournalError, OSError) as error:
            if not self._keeper.writes:
                return unwritten(self._folder.path, error)
            self._keeper.failed(failed_for_good(self._folder.path, error))
            self._changed()
            return None
        if self._record is not None and self._record.within is not None:
            await mend(self._record.within, self._looking_if_held)
        return trouble

    async def _looking(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Cancelled or not, the thread looks on: a stop waits for it before it lets go of the folder."""
        looking = self._loop.run_in_executor(self._thread, partial(step, *args, **kwargs))
        self._looks.add(looking)
        looking.add_done_callback(self._looks.discard)
        return await asyncio.shield(looking)

    async def _looking_if_held(self, step: Callable[[], T], /) -> T | None:
        if self._closing is not None:
            return None
        return await self._looking(lambda: step() if self._folder.held else None)

    def _look(self, numbers: Sequence[int]) -> str | None:
        if not self._keeper.writes:
            self._renew()
            return None
        self._folder.check()
        missing = self._folder.missing(numbers)
        if missing:
            return (
                f"the journal {self._folder.path} lacks {', '.join(missing)}: put it back; otherwise readers that need "
                "its messages are told overwritten after a restart"
            )
        return None

    async def close(self) -> None:
        """Writes all that was accepted, or logs why that failed; frees the folder.

        Where keeping it was promised, it is then the node's `failure`, too. A further call, also after one that was
        cancelled, waits for the same end.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        # The rest goes last, in one piece.
        under_way = [each for each in (self._under_way, *self._looks) if each is not None]
        if under_way:
            await asyncio.wait(under_way)
        try:
            work = self._keeper.end(self._clocks())
            if work is not None:
                await self._in_thread(self._write_last, work)
        except Exception as error:
            # Not only what a disk says: it is the last moment at which it can be told.
            self._not_kept(unwritten(self._folder.path, error))
        finally:
            self._thread.shutdown(wait=False)
            self._folder.close()

    def _not_kept(self, reason: str) -> None:
        self._keeper.failed(reason)
        if self._keeper.promised:
            log.error("journal.failed", reason=reason)
        else:
            log.warning("snapshot.failed", folder=self._folder.path, reason=reason, **LOST)

    def _write_last(self, work: Work) -> None:
        try:
            if not self._keeper.writes:
                self._renew()
                if self._record is not None:
                    self._record.leave(self._folder, self._node.stream.next)
            self._folder.perform(work)
        except BaseException:
            with contextlib.suppress(OSError):
                self._folder.tidy()
            raise

    async def _in_thread(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._loop.run_in_executor(self._thread, partial(step, *args, **kwargs))

    def _renew(self) -> None:
        """Makes a folder anew to which nothing was written yet, as one that has fallen to a cleaner of /tmp.

        Raises `JournalError` if it cannot be had, or if another one stands there that holds a journal.
        """
        with contextlib.suppress(JournalError):
            self._folder.check()
            return
        found = open_folder(self._folder.path)
        if found.numbers():
            found.close()
            raise JournalError(
                f"the journal {found.path} cannot be used any more: another folder with a journal is in its place: "
                "put the former one back, or move this one away"
            )
        gone, self._folder = self._folder, found
        gone.close()
        log.warning("place.put_back", what="journal", path=found.path)

    def _done(self, done: asyncio.Future[float | None]) -> None:
        self._under_way = None
        error = done.exception()
        if error is not None:
            self._keeper.failed(failed_for_good(self._folder.path, error))
        elif self._keeper.journal.failed is None:
            self._observe(done.result())
            self._keeper.done(self._clocks())
        self._changed()

    def _observe(self, synced_s: float | None) -> None:
        if synced_s is not None:
            self._node.events.counters.journal_fsync_seconds.observe(synced_s)


def _set_aside(folder: JournalFolder) -> None:
    """Sets aside what another version can read: this version must not remove it."""
    log.warning(
        "snapshot.set_aside",
        kept_as=folder.set_aside(folder.numbers()),
        remedy="remove it, or start the version that wrote it with this file under its former name",
    )
