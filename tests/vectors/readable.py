"""Frames as plain JSON and back: the form of the test vectors.

- Bytes are hex.
- A position is `[epoch, offset]`.
- A view is `{epoch, lineage, oldest, next}`, with `losses` if it has any.
- A claim is a position or one of the wire's words.
- An answer is an offset or a reason.
- A registered cursor is an offset of the view, or a position if it is not the place of that offset.
- A batch or an entry lists its messages.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pubsubd_protocol import frames
from pubsubd_protocol.attach import At, Claim, Earliest, FromStart, Reason, Remembered, Resume
from pubsubd_protocol.columns import pack_numbers, unpack_numbers
from pubsubd_protocol.entries import Batch, Entry, Messages, open_entry, part_of, place_batch
from pubsubd_protocol.positions import Epoch, Position, StreamView

_CLAIMS: dict[str, Claim] = {
    "start": FromStart(),
    "earliest": Earliest(),
    "remembered": Remembered(waiting=False),
    "waiting": Remembered(waiting=True),
}


def to_readable(frame: frames.Frame) -> dict[str, Any]:
    match frame:
        case Batch():
            topics = frame.topics.split("\n")
            index = unpack_numbers("H", frame.index) if frame.index else [0] * frame.count
            payloads, rest = [], memoryview(frame.payloads)
            for length in unpack_numbers("I", frame.lengths):
                payloads.append(bytes(rest[:length]).hex())
                rest = rest[length:]
            return {
                "type": "Batch",
                "sequence": frame.sequence,
                "retry": frame.retry,
                "to": frame.to,
                "messages": [
                    [topics[which], payload] for which, payload in zip(index, payloads, strict=True)
                ],
            }
        case Entry():
            columns = open_entry(frame)
            return {
                "type": "Entry",
                "node": frame.node,
                "epoch": frame.epoch.hex(),
                "first": frame.first,
                "next": frame.next,
                "time_us": columns.time_us,
                "publisher": columns.publisher.hex(),
                "sequence": columns.sequence,
                "to": frame.to,
                "messages": _messages(columns, frame.count),
            }
        case _:
            named = {f.name: getattr(frame, f.name) for f in dataclasses.fields(frame)}
            if isinstance(frame, frames.Attached) and frame.registered is not None:
                offset = frame.registered.offset
                named["registered"] = (
                    offset if frame.registered == frame.view.place(offset) else frame.registered
                )
            if isinstance(frame, frames.Fetched) and not frame.other_epochs:
                del named["other_epochs"]
            return {"type": type(frame).__name__} | {k: _plain(v) for k, v in named.items()}


def _messages(columns: Messages, count: int) -> list[list[Any]]:
    raws = columns.raws()
    return [
        [
            columns.offsets[i],
            columns.topics[columns.index[i]],
            raws[i].hex(),
        ]
        for i in range(count)
    ]


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case Position(epoch, offset) | At(Position(epoch, offset)):
            return [epoch.hex(), offset]
        case StreamView(epoch, lineage, oldest, following, losses):
            earlier = [[e.hex(), end] for e, end in lineage]
            lost = {"losses": [[e.hex(), number] for e, number in losses]} if losses else {}
            return {
                "epoch": epoch.hex(),
                "lineage": earlier,
                "oldest": oldest,
                "next": following,
                **lost,
            }
        case Resume(offset):
            return offset
        case Reason():
            return value.value
        case FromStart() | Earliest() | Remembered():
            return next(word for word, claim in _CLAIMS.items() if claim == value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def from_readable(readable: dict[str, Any]) -> frames.Frame:
    fields = {k: v for k, v in readable.items() if k != "type"}
    match readable["type"]:
        case "Batch":
            return _batch(fields)
        case "Entry":
            return _entry(fields)
        case name:
            values = {k: _field(k, fields[k]) for k in fields}
            if isinstance(registered := values.get("registered"), int):
                values["registered"] = values["view"].place(registered)
            made: frames.Frame = getattr(frames, name)(**values)
            return made


def _field(name: str, value: Any) -> Any:
    match name, value:
        case _, None:
            return None
        case (("sender_id" | "spoke_to" | "epoch" | "born" | "loss" | "id"), str()):
            return Epoch(bytes.fromhex(value))
        case (("nonce" | "proof"), str()):
            return bytes.fromhex(value)
        case "position", _:
            return _position(value)
        case (("positions" | "acknowledged" | "named"), _):
            return {k: None if place is None else _position(place) for k, place in value.items()}
        case "other_epochs", _:
            return tuple(Epoch(bytes.fromhex(epoch)) for epoch in value)
        case "elsewhere", _:
            return {name: _field("positions", places) for name, places in value.items()}
        case (("patterns" | "publish"), _):
            return tuple(value)
        case "view", _:
            earlier = tuple((Epoch(bytes.fromhex(e)), end) for e, end in value["lineage"])
            losses = tuple((Epoch(bytes.fromhex(e)), n) for e, n in value.get("losses", ()))
            epoch = Epoch(bytes.fromhex(value["epoch"]))
            return StreamView(epoch, earlier, value["oldest"], value["next"], losses)
        case "registered", [_, _]:
            return _position(value)
        case "claim", [_, _]:
            return At(_position(value))
        case "claim", _:
            return _CLAIMS[value]
        case "answer", int():
            return Resume(value)
        case (("answer" | "reason"), _):
            return Reason(value)
        case _:
            return value


def _position(value: list[Any]) -> Position:
    return Position(Epoch(bytes.fromhex(value[0])), value[1])


def _batch(fields: dict[str, Any]) -> Batch:
    messages = fields["messages"]
    topics = list(dict.fromkeys(topic for topic, _ in messages))
    index = [topics.index(topic) for topic, _ in messages] if len(topics) > 1 else []
    payloads = [bytes.fromhex(payload) for _, payload in messages]
    return Batch(
        fields["sequence"],
        fields["retry"],
        fields["to"],
        "\n".join(topics),
        pack_numbers("H", index),
        pack_numbers("I", list(map(len, payloads))),
        b"".join(payloads),
    )


def _entry(fields: dict[str, Any]) -> frames.Frame:
    """A whole entry, or one with places: that is what is left of a longer one."""
    first, following = fields["first"], fields["next"]
    there = {offset: (topic, payload) for offset, topic, payload in fields["messages"]}
    gone = "gone"  # stands for the messages that were cut out
    batch = _batch(
        {
            "sequence": fields["sequence"],
            "retry": False,
            "to": fields["to"],
            "messages": [there.get(offset, (gone, "")) for offset in range(first, following)],
        }
    )
    epoch, publisher = Epoch(bytes.fromhex(fields["epoch"])), bytes.fromhex(fields["publisher"])
    whole = place_batch(batch, fields["node"], epoch, first, fields["time_us"], publisher)
    part = part_of(whole, lambda topic: topic != gone)
    assert part is not None
    return part
