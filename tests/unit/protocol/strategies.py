"""Hypothesis strategies: everything that can stand in a frame, and every frame."""

from __future__ import annotations

import string
from collections.abc import Sequence

from hypothesis import strategies as st

from pubsubd_protocol import frames
from pubsubd_protocol.attach import At, Claim, Earliest, FromStart, Reason, Remembered, Resume
from pubsubd_protocol.codec import encode
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch, Entry, place_batch
from pubsubd_protocol.positions import Epoch, Lineage, Losses, Position, StreamView

Message = tuple[str, bytes]
"""Topic and payload."""


def batch_of(
    messages: Sequence[Message], *, sequence: int = 1, retry: bool = False, to: str | None = None
) -> Batch:
    """The batch that a publisher makes of `messages`."""
    topics = list(dict.fromkeys(topic for topic, _ in messages))
    number = {topic: i for i, topic in enumerate(topics)}
    index = [number[topic] for topic, _ in messages] if len(topics) > 1 else []
    return Batch(
        sequence,
        retry,
        to,
        "\n".join(topics),
        pack_numbers("H", index),
        pack_numbers("I", [len(payload) for _, payload in messages]),
        b"".join(payload for _, payload in messages),
    )


def same(a: frames.Frame, b: frames.Frame) -> bool:
    """Whether two frames say the same. Entries and batches have no equality: their bytes decide."""
    return type(a) is type(b) and encode(a) == encode(b)


epochs = st.binary(min_size=16, max_size=16).map(Epoch)
offsets = st.integers(0, 2**53 - 1)
unsigned = st.integers(0, 2**63 - 1)
_ends = string.ascii_letters + string.digits
node_names = st.one_of(
    st.sampled_from(["a", "b", "node-1", "host.example.org", "A_b.c-0", "x" * 64]),
    st.builds(
        lambda first, middle, last: first + middle + last,
        st.sampled_from(_ends),
        st.text(_ends + "._-", max_size=20),
        st.sampled_from(_ends),
    ),
)
positions = st.builds(Position, epochs, unsigned)
position_maps = st.dictionaries(node_names, positions, max_size=4)
_losses = st.dictionaries(node_names, unsigned, max_size=4)
"""Producers that are not heard, and for how many milliseconds."""
session_names = st.text(min_size=1, max_size=128).filter(str.isprintable)
segments = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters=".\n"),
    max_size=4,
)
topics = (
    st.lists(segments, min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda topic: 0 < len(topic.encode()) <= 255)
)
reasons = st.sampled_from(Reason)


lineages = st.lists(st.tuples(epochs, unsigned), max_size=3).map(tuple)


@st.composite
def losses_of(draw: st.DrawFn, lineage: Lineage) -> Losses:
    """Some of its epochs ended with a loss, in its order."""
    numbers = st.none() | st.integers(1, 2**63 - 1)
    return tuple((epoch, draw(numbers)) for epoch, _ in lineage if draw(st.booleans()))


@st.composite
def _views(draw: st.DrawFn) -> StreamView:
    oldest, following = sorted(draw(st.tuples(unsigned, unsigned)))
    lineage = draw(lineages)
    return StreamView(draw(epochs), lineage, oldest, following, draw(losses_of(lineage)))


views = _views()
claims: st.SearchStrategy[Claim] = st.one_of(
    positions.map(At),
    st.just(FromStart()),
    st.just(Earliest()),
    st.booleans().map(Remembered),
)
answers: st.SearchStrategy[Resume | Reason] = st.one_of(unsigned.map(Resume), reasons)
payloads = st.binary(max_size=12)
messages = st.lists(st.tuples(topics, payloads), min_size=1, max_size=8)
batches = st.builds(
    batch_of,
    messages,
    sequence=unsigned,
    retry=st.booleans(),
    to=st.none() | node_names,
)


def _placed(
    batch: Batch, node: str, epoch: Epoch, first: int, time_us: int, publisher: bytes
) -> Entry:
    return place_batch(batch, node, epoch, first, time_us, publisher)


entries = st.builds(
    _placed, batches, node_names, epochs, offsets, unsigned, st.binary(min_size=16, max_size=16)
)
patterns = st.lists(topics, max_size=4).map(tuple)
named_positions = st.dictionaries(session_names, positions, max_size=3)


@st.composite
def _skips(draw: st.DrawFn) -> frames.Skip:
    first = draw(st.integers(0, 2**62))
    span = draw(st.integers(1, 2**62 - 1))
    return frames.Skip(draw(node_names), draw(epochs), first, first + span)


_details = st.text(max_size=30)

_nonces = st.binary(min_size=32, max_size=32)

by_kind: dict[str, st.SearchStrategy[frames.Frame]] = {
    "Hello": st.builds(
        frames.Hello,
        st.just(frames.MAGIC),
        unsigned,
        unsigned,
        st.sampled_from(frames.ROLES[:-1]),
        st.just("") | node_names,
        epochs,
        st.none() | epochs,
    )
    | st.builds(
        frames.Hello,
        st.just(frames.MAGIC),
        unsigned,
        unsigned,
        st.just("peer"),
        node_names,
        epochs,
        st.none() | epochs,
        node_names,
        st.none() | _nonces,
    ),
    "Challenge": st.builds(frames.Challenge, node_names, epochs, _nonces),
    "Proof": st.builds(frames.Proof, _nonces),
    "Welcome": st.builds(
        frames.Welcome,
        *(unsigned, node_names, epochs, unsigned, unsigned, unsigned, unsigned, node_names),
    ),
    "Refused": st.builds(frames.Refused, st.text(max_size=64), _details),
    "Batch": batches,
    "Receipt": st.builds(frames.Receipt, unsigned, epochs, unsigned),
    "Rejected": st.builds(
        frames.Rejected,
        unsigned,
        st.text(max_size=64),
        _details,
        st.none() | unsigned,
        st.none() | unsigned,
    ),
    "Subscribe": st.builds(
        frames.Subscribe,
        patterns,
        st.sampled_from(["latest", "earliest"]),
        st.none() | position_maps,
        st.none() | epochs,
        st.none() | session_names,
        st.booleans(),
        st.none() | position_maps,
        st.none() | epochs,
    ),
    "Subscribed": st.builds(frames.Subscribed, position_maps, epochs, st.booleans(), _losses),
    "SetFilter": st.builds(frames.SetFilter, patterns),
    "FilterSet": st.builds(frames.FilterSet, position_maps),
    "StreamPosition": st.builds(frames.StreamPosition, node_names, positions),
    "Entry": entries,
    "Skip": _skips(),
    "CursorExpired": st.builds(
        frames.CursorExpired, node_names, reasons, st.none() | unsigned, views
    ),
    "Health": st.builds(frames.Health, _losses),
    "Ack": st.builds(
        frames.Ack,
        node_names,
        positions,
        st.dictionaries(session_names, st.none() | positions, max_size=3),
    ),
    "Attach": st.builds(frames.Attach, claims),
    "Attached": st.builds(frames.Attached, views, answers, st.none() | positions, named_positions),
    "Fetch": st.builds(frames.Fetch, unsigned, claims, unsigned, st.none() | node_names),
    "Fetched": st.builds(
        frames.Fetched,
        *(unsigned, views, answers, unsigned),
        st.lists(epochs, max_size=3).map(tuple),
    ),
    "Heartbeat": st.builds(frames.Heartbeat, st.none() | unsigned),
    "Query": st.builds(frames.Query, st.text(max_size=64), st.none() | _details),
    "Report": st.builds(frames.Report, st.text(max_size=100)),
}
"""A strategy for each frame of the union, by the name of its class."""

any_frame: st.SearchStrategy[frames.Frame] = st.one_of(*by_kind.values())
