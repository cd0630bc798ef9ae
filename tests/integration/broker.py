"""A real broker in a process of its own.

    with Broker(tmp_path, "a", ring_messages=100) as a: ...         # a.socket, a.status()

Options are those of `pubsubd start` with underscores: `heartbeat="200ms"`, `journal=path`, `http=False`
for `--no-http`, a list for an option that may be repeated, None to leave out a default of this harness.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.integration.loaded import AVAILABLE, Forked, loaded
from tests.integration.ports import lasting_port
from tests.integration.waiting import WAIT_TIMEOUT_S, NotReached, wait_until

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 60.0
_TAIL: Final = 40
"""Last lines of each broker that are shown when a test fails."""

PUBSUBD: Final = (
    (sys.executable, "-m", "pubsubd_cli")
    if importlib.util.find_spec("pubsubd_cli.__main__")
    else (str(Path(sys.executable).with_name("pubsubd")),)
)

ANY_PORT: Final = "127.0.0.1:0"

DEFAULTS: Final[Mapping[str, Any]] = {
    "listen": ANY_PORT,
    "http": ANY_PORT,
    "heartbeat": "200ms",
    "peer_timeout": "1s",
    "log_format": "json",
    "log_repeat": 0,
}


class Broker:
    """A broker process. It starts with `start()` or `with`, can be killed and started again.

    After a start: `socket` (the clients' path), `listen` and `http` ("127.0.0.1:PORT"), `pid`. A broker started again
    listens on its former port, unless `same_port` is False. Without a `command` it is forked where its modules are
    loaded; `command=PUBSUBD` starts it as its users do.
    """

    def __init__(
        self,
        folder: Path,
        node: str = "a",
        peers: Sequence[str] = (),
        *,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        same_port: bool = True,
        **options: Any,
    ) -> None:
        self.node = node
        self.options: dict[str, Any] = {**DEFAULTS, **options}
        """Options; they may be changed between two starts."""
        self.peers = list(peers)
        self.logs: list[dict[str, Any]] = []
        """Every log line of every life, parsed. A line that is not JSON stands as `{"event": None, "text": …}`."""
        self.on_started: list[Callable[[Broker], None]] = []
        """Called with this broker after each start, before `start()` returns."""
        self.listen = ""
        self.http = ""
        self._command = PUBSUBD if command is None and not AVAILABLE else command
        self._environment = dict(environment or {})
        self._same_port = same_port
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._reader: threading.Thread | None = None
        self._grown = threading.Condition()
        self._life = 0
        """The place in the logs where this life begins."""
        self._folder = folder / f"broker-{node}"
        self._folder.mkdir(parents=True, exist_ok=True)
        # Not in `folder`: a socket's path has to fit into 107 bytes, and pytest's folders are deep.
        self._socket_folder = tempfile.mkdtemp(prefix="psd-")
        self.socket = f"{self._socket_folder}/s"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last life; None while it runs. Negative: the signal that ended it."""
        return None if self._process is None else self._process.poll()

    def start(self, *, wait: bool = True) -> Self:
        """Start the process and wait until it serves."""
        if self.alive:
            raise RuntimeError(f"broker {self.node} is running already")
        self._join_reader()
        self._life = len(self.logs)
        self._process = self._started(["start", *self.arguments()])
        self._reader = threading.Thread(
            target=self._read_logs, args=(self._process,), name=f"logs-{self.node}", daemon=True
        )
        self._reader.start()
        return self.wait_started() if wait else self

    def wait_started(self) -> Self:
        """For a `start(wait=False)`: wait until it serves."""
        started = self.wait_log("broker.started", timeout_s=START_TIMEOUT_S)
        self.listen = started.get("listen") or ""
        self.http = started.get("http") or ""
        self.socket = started.get("socket") or self.socket
        for callback in self.on_started:
            callback(self)
        return self

    def arguments(self) -> list[str]:
        """The arguments after `pubsubd start`."""
        options: dict[str, Any] = {"node": self.node, "socket": self.socket, **self.options}
        if self._same_port and self.listen and options.get("listen"):
            options["listen"] = self.listen
        elif self._same_port and options.get("listen") == ANY_PORT:
            options["listen"] = f"127.0.0.1:{lasting_port()}"
        return [*_flags(options), *_flags({"peer": self.peers})]

    def kill(self) -> None:
        """SIGKILL: the process ends at once, without writing or sending anything."""
        self._end(signal.SIGKILL)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, and its exit code. Raises `NotReached` if it does not end in time."""
        return self._end(signal.SIGTERM, timeout_s)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> Self:
        """End it (`SIGTERM`, or `SIGKILL` for a crash) and start it again, with the options as they are."""
        if self.alive:
            self._end(how)
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: the broker hangs, its connections stay open. Returns when the process stands still."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        if isinstance(process, Forked):
            wait_until(process.stands_still, what="the stop")
        else:
            look = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            wait_until(lambda: os.waitid(os.P_PID, process.pid, look), what="the stop")

    def resume(self) -> None:
        """SIGCONT after `pause()`."""
        self._running().send_signal(signal.SIGCONT)

    def status(self) -> dict[str, Any]:
        """`/status.json`."""
        status: dict[str, Any] = json.loads(self.get("/status.json"))
        return status

    def metrics(self) -> str:
        """`/metrics`, as Prometheus text."""
        return self.get("/metrics").decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of `name` (with or without "pubsubd_") whose labels include `labels`."""
        name = name if name.startswith("pubsubd_") else f"pubsubd_{name}"
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        total = 0.0
        for line in self.metrics().splitlines():
            sample, _, value = line.rpartition(" ")
            found, _, inside = sample.partition("{")
            if found == name and all(each in inside.rstrip("}").split(",") for each in wanted):
                total += float(value)
        return total

    def ready(self) -> bool:
        """Whether `/readyz` says that it is ready: it serves, and reached every configured peer once."""
        try:
            self.get("/readyz")
        except urllib.error.HTTPError as error:
            error.close()
            return False
        return True

    def get(self, path: str) -> bytes:
        """The body of an answer to GET. Raises `OSError` without an answer, `HTTPError` if its code is not 200."""
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body

    def mark(self) -> int:
        """A place in the logs, for `wait_log(since=…)`: only lines after it count."""
        with self._grown:
            return len(self.logs)

    def wait_log(
        self,
        event: str,
        *,
        since: int | None = None,
        timeout_s: float = WAIT_TIMEOUT_S,
        **fields: Any,
    ) -> dict[str, Any]:
        """The first log line of this life (or since a mark) with this event and these fields.

        Raises `NotReached` when the time is over or the process has ended without it.
        """
        at = self._life if since is None else since
        deadline = time.monotonic() + timeout_s
        with self._grown:
            while True:
                for line in self.logs[at:]:
                    if line["event"] == event and fields.items() <= line.items():
                        return line
                at = len(self.logs)
                left = deadline - time.monotonic()
                if left <= 0 or not self._listening():
                    break
                self._grown.wait(min(left, 0.1))
        wanted = " ".join([event, *(f"{key}={value!r}" for key, value in fields.items())])
        raise NotReached(f"broker {self.node} logged no {wanted}\n{self.tail()}")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of every life with this event."""
        return [line for line in list(self.logs) if line["event"] == event]

    def tail(self) -> str:
        """The last log lines, for people."""
        lines = [json.dumps(line, ensure_ascii=False) for line in self.logs[-_TAIL:]]
        state = "running" if self.alive else f"exit code {self.exit_code}"
        return "\n".join([f"--- broker {self.node} ({state}), last log lines:", *lines])

    def close(self) -> None:
        """End the process, in any state, and remove its socket. A second call does nothing."""
        if self.alive:
            self._end(signal.SIGKILL)
        self._join_reader()
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self if self.alive else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.close()
        if error is not None:
            sys.stderr.write(self.tail() + "\n")

    def _running(self) -> subprocess.Popen[bytes] | Forked:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"broker {self.node} is not running\n{self.tail()}")
        return self._process

    def _started(self, arguments: list[str]) -> subprocess.Popen[bytes] | Forked:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PUBSUBD_")}
        environment = inherited | {"PYTHONUNBUFFERED": "1"} | self._environment
        if self._command is None:
            return loaded().start(arguments, self._folder, environment)
        return subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env=environment,
        )

    def _end(self, how: signal.Signals, timeout_s: float = STOP_TIMEOUT_S) -> int:
        process = self._running()
        process.send_signal(how)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise NotReached(
                f"broker {self.node} did not end {timeout_s} s after {how.name}\n{self.tail()}"
            ) from None
        self._join_reader()
        return code

    def _listening(self) -> bool:
        """Whether more log lines can come."""
        return self._reader is not None and self._reader.is_alive()

    def _join_reader(self) -> None:
        if self._reader is not None:
            self._reader.join(5)

    def _read_logs(self, process: subprocess.Popen[bytes] | Forked) -> None:
        assert process.stderr is not None
        with process.stderr:
            for raw in process.stderr:
                line = _parsed(raw)
                with self._grown:
                    self.logs.append(line)
                    self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()


def _flags(options: Mapping[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        match value:
            case None:
                pass
            case True:
                flags.append(f"--{flag}")
            case False:
                flags.append(f"--no-{flag}")
            case list() | tuple():
                for each in value:
                    flags += [f"--{flag}", str(each)]
            case _:
                flags += [f"--{flag}", str(value)]
    return flags


def _parsed(raw: bytes) -> dict[str, Any]:
    text = raw.decode(errors="replace").rstrip("\n")
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if isinstance(line, dict):
        return {"event": None, **line}
    return {"event": None, "text": text}
