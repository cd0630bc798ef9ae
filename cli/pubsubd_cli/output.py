"""Output of an asynchronous command. It never blocks the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from pubsubd_cli.standard_streams import STDOUT, OutputFailed, output_encoding
from pubsubd_protocol.printable import printable_lines

WATCHES: Final = hasattr(select, "epoll")
"""Whether the command can watch for the end of its reader. Without it, the next write notices that the reader is gone."""


class Output:
    """Writes to one file descriptor, in a thread of its own: a pipe that no process reads may block a write.

    The thread is a daemon and holds no lock of Python, so the process can end while the thread waits.
    """

    def __init__(self, descriptor: int = STDOUT) -> None:
        self._descriptor = descriptor

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises `OutputFailed`."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            if written.done():
                return
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(OutputFailed(error))

        def write_all() -> None:
            error: OSError | None = None
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError as failed:
                error = failed
            # The loop may have ended before the reader took the data.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=write_all, name="output", daemon=True).start()
        await written

    async def say(self, text: str) -> None:
        """Write lines for people."""
        line = printable_lines(text, output_encoding()) + "\n"
        await self.write(line.encode(output_encoding(), "backslashreplace"))

    async def while_read(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end. Raises `OutputFailed` as soon as the reader of the output is gone.

        A pipe reports that as an error condition, without a write. `epoll` reports error conditions always.
        """
        working = asyncio.ensure_future(work)
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            with self._watched(gone):
                await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
                else:
                    raise OutputFailed(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
        finally:
            gone.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})

    @contextlib.contextmanager
    def _watched(self, gone: asyncio.Future[None]) -> Iterator[None]:
        if not WATCHES:
            yield
            return
        loop = asyncio.get_running_loop()
        with select.epoll() as watch:
            try:
                watch.register(self._descriptor, 0)
            except PermissionError:
                # The output is a regular file, which has no reader.
                yield
                return
            loop.add_reader(watch.fileno(), _settle, gone)
            try:
                yield
            finally:
                loop.remove_reader(watch.fileno())


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
