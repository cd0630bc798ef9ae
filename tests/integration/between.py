"""A man in the middle: stands between two brokers and changes what they send to each other, frame by frame.

    with Between(address_of(b), change) as between:
        start_broker("a", peers=[between.endpoint])

`change(way, frame)` is given each frame, and returns the frames that go on in its place.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Final, Self

from tests.feeding import feed
from tests.integration.relay import Direction

from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.frames import Frame
from pubsubd_protocol.framing import FrameReader

Change = Callable[[Direction, Frame], Frame]

MAX_FRAME: Final = 64 * 2**20
_PATIENCE_S: Final = 20.0
_READ_BYTES: Final = 64 * 1024


class Between:
    """Listens at once. Connects each caller to `target`.

    `accepting`, `dialling`: TLS contexts towards the caller and towards the target, with stolen certificates.
    """

    def __init__(
        self,
        target: tuple[str, int],
        change: Change,
        *,
        accepting: ssl.SSLContext | None = None,
        dialling: ssl.SSLContext | None = None,
    ) -> None:
        self.passed: list[tuple[Direction, Frame]] = []
        """Every frame as it came, of all connections."""
        self._target = target
        self._change = change
        self._accepting = accepting
        self._dialling = dialling
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="between", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return "{}:{}".format(*self._listener.getsockname()[:2])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE_S)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # All that follows runs in threads of its own.

    def _serve(self) -> None:
        pumps: list[threading.Thread] = []
        with contextlib.ExitStack() as stack:
            # Close only when no thread reads from them: a closed descriptor may be another connection's by then.
            ends = stack.enter_context(contextlib.ExitStack())
            stack.callback(_join, pumps)
            while True:
                try:
                    taken, _ = self._listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError):
                    one, other = self._ends(taken)
                    for end in (one, other):
                        ends.callback(end.close)
                        stack.callback(_hang_up, end)
                    pumps += [
                        self._pump(one, other, "to_target"),
                        self._pump(other, one, "from_target"),
                    ]

    def _ends(self, taken: socket.socket) -> tuple[socket.socket, socket.socket]:
        taken.settimeout(_PATIENCE_S)
        if self._accepting is not None:
            taken = self._accepting.wrap_socket(taken, server_side=True)
        try:
            other = socket.create_connection(self._target, _PATIENCE_S)
            if self._dialling is not None:
                other = self._dialling.wrap_socket(other)
        except OSError:
            taken.close()
            raise
        return taken, other

    def _pump(self, source: socket.socket, sink: socket.socket, way: Direction) -> threading.Thread:
        def run() -> None:
            with contextlib.suppress(OSError):
                for frame in _frames(source):
                    self.passed.append((way, frame))
                    sink.sendall(encode(self._change(way, frame)))
            _hang_up(sink)

        thread = threading.Thread(target=run, name=way, daemon=True)
        thread.start()
        return thread


def unchanged(way: Direction, frame: Frame) -> Frame:
    """Changes no frame, for a listener."""
    return frame


def _frames(source: socket.socket) -> Iterator[Frame]:
    reader = FrameReader(MAX_FRAME)
    while data := source.recv(_READ_BYTES):
        for view in feed(reader, data):
            yield decode(view)


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(_PATIENCE_S)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Shut the raw socket: shutting TLS would let a thread that still reads see encrypted bytes.
        socket.socket.shutdown(end, socket.SHUT_RDWR)
