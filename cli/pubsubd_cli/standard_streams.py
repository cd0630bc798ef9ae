"""Standard input, output and error, also where they are closed, full, or read by no process.

A descriptor below 3 that is closed at the start would be given to the next socket or file, which then gets
what is printed. So each is opened first, for the wrong direction: any use of it gets `EBADF`, as if it were
closed (GNU coreutils' stdopen does the same).
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Final

from pubsubd_protocol.printable import printable, printable_lines

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


class OutputFailed(Exception):
    """Standard output takes nothing more. `unread`: its reader is gone, which needs no word."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"can't write to standard output: {error.strerror}")
        self.unread = error.errno == errno.EPIPE


class _Guarded(io.RawIOBase):
    """A descriptor below Python's text streams. After `abandon` it takes everything and writes nothing.

    Not being an `OSError`, what `fail` raises passes click, which would end the process on its own; and
    what is left in buffers does not fail once more when the interpreter ends.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._abandoned = False

    def abandon(self) -> None:
        self._abandoned = True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        if self._abandoned:
            return view.nbytes
        try:
            return os.write(self._descriptor, view)
        except OSError as error:
            self.abandon()
            if self._descriptor == STDERR:
                # There is no other place to say it.
                return view.nbytes
            raise OutputFailed(error) from error

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def guard() -> None:
    """Call it first of all: afterwards `sys.stdout` and `sys.stderr` are there and fail in one way."""
    _open_what_is_closed()
    sys.stdout = _text_stream(STDOUT, sys.stdout)
    sys.stderr = _text_stream(STDERR, sys.stderr)


def finish() -> None:
    """Writes what is buffered. Raises `OutputFailed`."""
    sys.stdout.flush()


def abandon() -> None:
    """Drops what is buffered: the command has ended otherwise, and its end must not wait for a reader."""
    for stream in (sys.stdout, sys.stderr):
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if isinstance(raw, _Guarded):
            raw.abandon()


def output_encoding() -> str:
    """The encoding of standard output: the terminal's, or what `PYTHONIOENCODING` says."""
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def say(text: str) -> None:
    """Prints lines on standard output. Raises `OutputFailed`."""
    print(printable_lines(text, output_encoding()), flush=True)


def complain(text: str) -> None:
    """Prints one line on standard error, if that takes it."""
    line = " ".join(text.split())
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    print(f"pubsubd: {printable(line, encoding)}", file=sys.stderr, flush=True)


def _open_what_is_closed() -> None:
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free one is taken, which is this one: those below are open by now.
            mode = os.O_WRONLY if descriptor == STDIN else os.O_RDONLY
            os.set_inheritable(os.open(os.devnull, mode), True)


def _text_stream(descriptor: int, before: object) -> io.TextIOWrapper:
    """Python's own setting of the encoding is kept; what it does not have is escaped, never an error."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    buffered = io.BufferedWriter(_Guarded(descriptor))
    return io.TextIOWrapper(
        buffered, encoding, "backslashreplace", line_buffering=descriptor == STDERR
    )
