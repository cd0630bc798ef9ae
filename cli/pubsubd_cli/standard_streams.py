"""Standard input, output and error, also if they are closed, full, or read by no process.

The system gives a closed descriptor below 3 to the next socket or file, which would then get the printed text.
Therefore `guard` opens each closed one first, for the wrong direction: any use fails with `EBADF`, as if it were
closed. GNU coreutils' stdopen does the same.
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
    """Standard output takes nothing more. `unread`: its reader is gone, so the command ends without an error line."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.unread = error.errno == errno.EPIPE


class _Guarded(io.RawIOBase):
    """A file descriptor below Python's text streams. After `abandon` it takes everything and writes nothing.

    A failed write raises `OutputFailed`, which is not an `OSError`: click ends the process itself at an `OSError`.
    After the first failure, buffered text does not fail again at the end of the interpreter.
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
                # Standard error has failed: no other place is left to report it.
                return view.nbytes
            raise OutputFailed(error) from error

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def guard() -> None:
    """Set up `sys.stdout` and `sys.stderr`, so that both exist and fail with `OutputFailed`. Call it first of all."""
    _open_what_is_closed()
    sys.stdout = _text_stream(STDOUT, sys.stdout)
    sys.stderr = _text_stream(STDERR, sys.stderr)


def finish() -> None:
    """Write buffered text. Raises `OutputFailed`."""
    sys.stdout.flush()


def abandon() -> None:
    """Drop buffered text: the command has ended, and its end must not wait for a reader."""
    for stream in (sys.stdout, sys.stderr):
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if isinstance(raw, _Guarded):
            raw.abandon()


def output_encoding() -> str:
    """The encoding of standard output: the terminal's, or that of `PYTHONIOENCODING`."""
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def say(text: str) -> None:
    """Print lines on standard output. Raises `OutputFailed`."""
    print(printable_lines(text, output_encoding()), flush=True)


def complain(text: str) -> None:
    """Print one line on standard error. A failure to write it is ignored."""
    line = " ".join(text.split())
    print(f"pubsubd: {printable(line, _error_encoding())}", file=sys.stderr, flush=True)


def instruct(help_text: str) -> None:
    """Print help on standard error, line by line. A failure to write it is ignored."""
    print(printable_lines(help_text, _error_encoding()), file=sys.stderr, flush=True)


def _error_encoding() -> str:
    return getattr(sys.stderr, "encoding", None) or "utf-8"


def _open_what_is_closed() -> None:
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() takes the lowest free descriptor, which is this one: those below are open by now.
            mode = os.O_WRONLY if descriptor == STDIN else os.O_RDONLY
            os.set_inheritable(os.open(os.devnull, mode), True)


def _text_stream(descriptor: int, before: object) -> io.TextIOWrapper:
    """A text stream in Python's chosen encoding. Characters that the encoding lacks are escaped, never an error."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    buffered = io.BufferedWriter(_Guarded(descriptor))
    return io.TextIOWrapper(
        buffered, encoding, "backslashreplace", line_buffering=descriptor == STDERR
    )
