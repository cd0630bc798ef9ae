"""The targets can fail: each deliberate bug is caught, within a number of inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest
from tests.fuzz import limits, play
from tests.fuzz.corpus import everything
from tests.fuzz.mutating import some
from tests.fuzz.run import replay
from tests.fuzz.target import TARGETS
from tests.fuzz.targets import codec as codec_target

from pubsubd_broker.core.journal import recovery
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.streams import replica
from pubsubd_broker.http import server as admin_http
from pubsubd_protocol import codec, entries
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.framing import PREFIX_BYTES, FrameReader
from pubsubd_protocol.positions import Epoch

Patch = tuple[object, str, Any]


def _raising(function: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    def raises(*arguments: Any) -> Any:
        if when(*arguments):
            raise KeyError("a bug")
        return function(*arguments)

    return raises


def _nothing(*arguments: Any, **named: Any) -> None:
    """Replaces a rule that is left out."""


def _without_limits(packed: bytes, longest_map: int = 32) -> object:
    return msgpack.unpackb(packed)


def _early_frames(self: FrameReader) -> Iterator[memoryview]:
    """Gives a frame before its last byte has come."""
    while self._end - self._start >= PREFIX_BYTES:
        length = int.from_bytes(self._buffer[self._start : self._start + PREFIX_BYTES], "big")
        if not 0 < length <= self.limit:
            raise ProtocolError("frame_length", "")
        stop = self._start + PREFIX_BYTES + length
        if stop - 1 > self._end:
            return
        yield self._view[self._start : stop]
        self._start = stop


def _trusting_growth(self: FrameReader) -> None:
    """Takes 16 MiB as soon as a frame does not fit."""
    held = bytes(self._view[self._start : self._end])
    self._replace(bytearray(2**24))
    self._view[: len(held)] = held
    self._start, self._end = 0, len(held)


async def _refused_as_a_get(
    self: admin_http.AdminServer,
    connection: Any,
    reader: Any,
    writer: Any,
    reply: Any,
    *method: str,
) -> None:
    await _refuse(self, connection, reader, writer, reply)


def _all_is_well(code: int, text: str, *headers: tuple[str, str]) -> admin_http.HttpAnswer:
    return admin_http.HttpAnswer(200, "text/plain", text.encode(), headers)


_refuse = admin_http.AdminServer._refuse
_take_entry = recovery._take_entry
_session_received = SessionEnd.received

BUGS: Final[dict[str, tuple[str, list[Patch], int]]] = {
    "a decoder lets a KeyError out": (
        "codec",
        [(codec, "read_batch", _raising(entries.read_batch, lambda frame: len(frame) % 7 == 0))],
        2_000,
    ),
    "msgpack without limits": ("codec", [(codec, "unpack_limited", _without_limits)], 2_000),
    "a skip may go back": ("codec", [(codec, "_forward", lambda skip: skip)], 20_000),
    "the columns of a batch are not compared": (
        "codec",
        [(entries, "check_columns", _nothing)],
        2_000,
    ),
    "places are not checked": ("codec", [(entries, "check_places", _nothing)], 20_000),
    "a node's name may be anything": (
        "codec",
        [(entries, "is_node_name", lambda name: True)],
        20_000,
    ),
    "a part is the whole": (
        "codec",
        [(codec_target, "part_of", lambda entry, wants: entry)],
        2_000,
    ),
    "a frame comes before its last byte": (
        "framing",
        [(FrameReader, "frames", _early_frames)],
        2_000,
    ),
    "memory is taken before the bytes come": (
        "framing",
        [(FrameReader, "_grow", _trusting_growth)],
        500,
    ),
    "a session's handler has a bug": (
        "handshake",
        [
            (
                SessionEnd,
                "received",
                _raising(_session_received, lambda self, frame, now: self.settled),
            )
        ],
        2_000,
    ),
    "a producer may send of any stream": (
        "handshake",
        [(replica, "check_origin", _nothing)],
        2_000,
    ),
    "a ring never evicts": ("handshake", [(Log, "_make_room", _nothing)], 2_000),
    "batches are placed unseen": (
        "handshake",
        [(Batch, "check", _nothing)],
        2_000,
    ),
    "recovery looks for no holes": ("recovery", [(recovery, "_continues_at", _nothing)], 2_000),
    "recovery believes cursors": ("recovery", [(recovery, "_clamp", _nothing)], 4_000),
    "recovery lets a KeyError out": (
        "recovery",
        [(recovery, "_take_entry", _raising(_take_entry, lambda found, body: len(body) < 40))],
        2_000,
    ),
    "recovery keeps entries that no reader can place": (
        "recovery",
        [(recovery, "_forget_contradicted", _nothing)],
        1_000,
    ),
    "a path makes the admin server fail": (
        "admin",
        [
            (
                admin_http,
                "answer",
                _raising(admin_http.answer, lambda method, *rest: method == "HEAD"),
            )
        ],
        500,
    ),
    "a refusal says that all is well": ("admin", [(admin_http, "_plain", _all_is_well)], 500),
    "a refusal of a HEAD has a body": (
        "admin",
        [(admin_http.AdminServer, "_refuse", _refused_as_a_get)],
        500,
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name, patches, within = BUGS[bug]
    target = TARGETS[name]
    inputs = [*everything(target), *some(target, 1, within)]
    for owner, attribute, replacement in patches:
        monkeypatch.setattr(owner, attribute, replacement)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(play.Finding):
        play.play(target, inputs, measure_every=10)


def test_an_endless_input_is_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def endless(self: FrameReader) -> Iterator[memoryview]:
        while True:
            pass
        yield self._view

    monkeypatch.setattr(FrameReader, "frames", endless)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(limits, "CPU_S", 0.5)
    with pytest.raises(play.Finding, match=r"TooLong: more than 0\.5 s"):
        play.play(TARGETS["framing"], [b"\0\0\0\0\0\0\0\1x"])


def test_an_input_that_takes_much_memory_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(codec, "unpack_limited", lambda packed, *longest: bytes(2**24))
    with pytest.raises(play.Finding, match=r"TooMuch: 167\d{5} bytes of memory for an input of 6"):
        play.play(TARGETS["codec"], [b"\0\0\0\2\x91\x22"], measure_every=1)


def test_a_finding_has_the_input_in_hex_and_its_replay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(codec, "_forward", lambda skip: skip)
    wrong = codec.encode(Skip("node-a", Epoch(bytes(16)), 5, 4))
    with pytest.raises(play.Finding) as caught:
        play.play(TARGETS["codec"], [b"", wrong])
    said = str(caught.value)
    assert "codec: AssertionError: a skip goes back" in said
    assert wrong.hex() in said
    assert f"python -m tests.fuzz.run --target codec --replay {caught.value.file}" in said
    assert caught.value.file.read_bytes() == wrong
    with pytest.raises(play.Finding):
        replay(TARGETS["codec"], caught.value.file)
    monkeypatch.undo()
    replay(TARGETS["codec"], caught.value.file)
