"""Brokers and commands forked from a process that has loaded their modules: all but the start of the interpreter is real.

Loading them takes more processor time than most tests do. `loaded().start` takes the arguments of `pubsubd`, and
returns a process with its own memory, descriptors, environment and folder. Only its command line, as the kernel shows
it, is that of the process that forked it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

AVAILABLE: Final = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")

_REQUEST_BYTES: Final = 128 * 1024
_ENDED_BYTES: Final = 16


class Forked:
    """The part of `subprocess.Popen` that the harness uses."""

    def __init__(self, pid: int, handle: int, ended: int, stderr: IO[bytes]) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._handle = handle
        self._ended = ended
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        with self._lock:
            if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
                told = os.read(self._ended, _ENDED_BYTES)
                if not told:
                    raise RuntimeError("the process that forks brokers is gone")
                self.returncode = int(told)
                os.close(self._ended)
                os.close(self._handle)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired("pubsubd", timeout or 0)
            with contextlib.suppress(
                OSError, ValueError
            ):  # Another thread has read it, and closed it.
                select.select([self._ended], [], [], left)
        return code

    def stands_still(self) -> bool:
        """Whether SIGSTOP has reached each of its threads."""
        states = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(state.read_text().rpartition(")")[2].split()[0] == "T" for state in states)

    def send_signal(self, number: signal.Signals) -> None:
        """Does nothing to a process that has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)


@functools.cache
def loaded() -> Loaded:
    """The process that forks, the same for all tests of this process."""
    process = Loaded()
    atexit.register(process.close)
    return process


class Loaded:
    """The process that forks. It ends with the process that started it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=Path(__file__).parents[2],
            )

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `pubsubd ARGUMENTS` to its end, with empty input. Raises `subprocess.TimeoutExpired`."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self._fork(
                arguments, Path.cwd(), environment, (out.fileno(), err.fileno()), err
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())

    def start(self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Forked:
        """Start `pubsubd ARGUMENTS`, with empty input; its standard output is not read by any process."""
        err, their_err = os.pipe()
        stderr = os.fdopen(err, "rb")
        try:
            with os.fdopen(their_err, "wb"), open(os.devnull, "wb") as out:
                return self._fork(arguments, cwd, environment, (out.fileno(), their_err), stderr)
        except BaseException:
            stderr.close()
            raise

    def _fork(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        outputs: tuple[int, int],
        stderr: IO[bytes],
    ) -> Forked:
        """`outputs`: the descriptors of the process. `stderr`: reads what comes out of the second one."""
        request = {"arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment)}
        ended, their_ended = os.pipe()
        try:
            with self._lock:
                message = json.dumps(request).encode()
                socket.send_fds(self._control, [message], [*outputs, their_ended])
                told, handles, _, _ = socket.recv_fds(self._control, _ENDED_BYTES, 1)
        except BaseException:
            os.close(ended)
            raise
        finally:
            os.close(their_ended)
        return Forked(int(told), handles[0], ended, stderr)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


def _serve(control: socket.socket) -> list[str]:
    """Fork for each request. Returns only in the new process, with the arguments that it must run with."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _reap(running)
        if control not in ready:
            continue
        message, given, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 3)
        if not message:
            sys.exit()
        out, err, ended = given
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A descriptor closed here behind its object's back would be closed a second time, as another's.
            for each in (control, woken, wakes):
                each.detach()
            return _become(json.loads(message), out, err)
        running[pid] = ended
        os.close(out)
        os.close(err)
        handle = os.pidfd_open(pid)
        socket.send_fds(control, [str(pid).encode()], [handle])
        os.close(handle)


def _reap(running: dict[int, int]) -> None:
    for pid, ended in list(running.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            del running[pid]
            with contextlib.suppress(BrokenPipeError):
                os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(ended)


def _become(request: dict[str, Any], out: int, err: int) -> list[str]:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, source in enumerate((nothing, out, err)):
        os.dup2(source, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    arguments: list[str] = request["arguments"]
    sys.argv = ["pubsubd", *arguments]
    return arguments


if __name__ == "__main__":
    for module in (
        "pubsubd_cli.run",
        "pubsubd_cli.group",
        "pubsubd_cli.config",
        "pubsubd_cli.cursors",
        "pubsubd_cli.publish",
        "pubsubd_cli.start",
        "pubsubd_cli.status",
        "pubsubd_cli.subscribe",
        "pubsubd_broker.daemon",
    ):
        importlib.import_module(module)
    from pubsubd_cli.main import main

    # A collection in a forked process would copy the pages of all that is loaded.
    gc.freeze()
    # From here on this is the command itself, to its last handler at exit.
    main(_serve(socket.socket(fileno=int(sys.argv[1]))))
