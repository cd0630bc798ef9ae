"""Hypothesis strategies: for each target, inputs whose fields are all honest, in any order."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from tests.fuzz import folders
from tests.fuzz.scripts import Flag, Op, Step, build
from tests.fuzz.targets.framing import HEAD_BYTES
from tests.fuzz.targets.site import NAME
from tests.unit.protocol import strategies as protocol

from pubsubd_broker.core.journal.checkpoint import Checkpoint, KeptConsumer, encode_checkpoint
from pubsubd_broker.core.journal.records import Kind
from pubsubd_broker.core.journal.recovery import SEQUENCE
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Batch, place_batch
from pubsubd_protocol.frames import MAGIC, VERSION, Hello
from pubsubd_protocol.positions import Epoch, Lineage, Position

_EPOCHS: Final = st.sampled_from([Epoch(bytes((n,)) * 16) for n in range(3)])
_small: Final = st.integers(0, 12)

frames: Final = protocol.any_frame.map(encode)

streams: Final = st.builds(
    lambda head, sent, rest: head + b"".join(sent) + rest,
    st.binary(min_size=HEAD_BYTES, max_size=HEAD_BYTES),
    st.lists(frames, max_size=6),
    st.binary(max_size=8),
)

_hellos: Final = st.builds(
    Hello,
    st.just(MAGIC),
    st.just(VERSION),
    st.just(VERSION),
    st.sampled_from(["publisher", "session", "control", "peer"]),
    st.sampled_from(["", "node-b", "node-c"]),
    _EPOCHS,
)

_steps: Final = st.builds(
    Step,
    st.sampled_from(Op),
    st.lists(st.one_of(_hellos.map(encode), frames), max_size=3).map(b"".join),
    st.integers(0, 5),
)

scripts: Final = st.builds(
    build,
    st.integers(0, 63).map(Flag),
    st.lists(_steps, max_size=10),
)


def _entry_record(batch: Batch, epoch: Epoch, first: int, sequence: int) -> tuple[int, bytes]:
    entry = place_batch(batch, NAME, epoch, first, 0, bytes(16))
    return Kind.ENTRY, SEQUENCE.pack(sequence) + encode(entry)


def _checkpoint_record(
    lost: list[int | None],
    epoch: Epoch,
    lineage: Lineage,
    following: int,
    consumers: dict[str, KeptConsumer],
    publishers: dict[bytes, int],
    sessions: dict[str, dict[str, Position]],
) -> tuple[int, bytes]:
    ends = zip(lineage, lost, strict=False)
    losses = tuple((earlier, number) for (earlier, _), number in ends if number != 0)
    return Kind.CHECKPOINT, encode_checkpoint(
        Checkpoint(NAME, epoch, lineage, following, consumers, publishers, sessions, losses=losses)
    )


_places: Final = st.builds(Position, _EPOCHS, _small)

_checkpoints: Final = st.builds(
    _checkpoint_record,
    st.lists(st.none() | _small, max_size=3),
    _EPOCHS,
    st.lists(st.tuples(_EPOCHS, _small), max_size=3).map(tuple),
    _small,
    st.dictionaries(protocol.node_names, st.builds(KeptConsumer, _places), max_size=2),
    st.dictionaries(_EPOCHS, _small, max_size=2),
    st.dictionaries(protocol.session_names, protocol.position_maps, max_size=2),
)

_segments: Final = st.builds(
    lambda checkpoint, records: folders.segment_of([checkpoint, *records]),
    _checkpoints,
    st.lists(st.builds(_entry_record, protocol.batches, _EPOCHS, _small, _small), max_size=5),
)

journals: Final = st.builds(
    folders.build, st.just(0), st.dictionaries(st.integers(0, 5), _segments, max_size=4)
)

_lines: Final = st.sampled_from(
    [
        *("GET /metrics HTTP/1.1", "HEAD /status.json HTTP/1.1", "POST /healthz HTTP/1.0"),
        *(
            "Host: localhost",
            "Connection: close",
            "Content-Length: 3",
            "Transfer-Encoding: chunked",
        ),
        *("Expect: 100-continue", "Upgrade: x", "", "", "3", "abc", "0"),
    ]
)

requests: Final = st.builds(
    lambda pieces, lines: bytes((pieces,)) + "\r\n".join([*lines, "", ""]).encode(),
    st.integers(0, 5),
    st.lists(_lines | st.text(max_size=10), max_size=12),
)

BY_TARGET: Final[dict[str, st.SearchStrategy[bytes]]] = {
    "codec": frames,
    "framing": streams,
    "handshake": scripts,
    "recovery": journals,
    "admin": requests,
}
