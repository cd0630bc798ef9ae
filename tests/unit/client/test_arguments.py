"""A wrong argument raises at the call that brought it. Other users of the same client are untouched."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import FakeBroker, entry

import pubsubd
from pubsubd import arguments, control

NO_SECONDS = [
    *(timedelta(seconds=5), "5", b"5", [5], object(), Decimal(5), True, False),
    *(float("nan"), float("inf"), float("-inf"), -1, -0.001, 10**400),
]


@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: repr(value)[:20])
def test_what_is_no_number_of_seconds_is_refused_with_name_and_value(value: object) -> None:
    with pytest.raises(pubsubd.InvalidArgument, match="timeout"):
        arguments.seconds("timeout", value)


@pytest.mark.parametrize("value", [0, 5, 0.5, Fraction(1, 2)])
def test_every_real_number_of_seconds_is_taken(value: Any) -> None:
    taken = arguments.seconds("timeout", value)
    assert (taken, type(taken)) == (float(value), float)


def test_a_timedelta_is_refused_with_what_to_pass_instead() -> None:
    with pytest.raises(pubsubd.InvalidArgument, match=r"timeout=value\.total_seconds\(\)"):
        arguments.seconds("timeout", timedelta(seconds=5))


@async_test
@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: repr(value)[:20])
async def test_a_wrong_timeout_publishes_nothing_and_later_publishes_go_on(
    tmp_path: Path, value: Any
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        for publish in (client.publish, client.publish_many):
            with pytest.raises(pubsubd.InvalidArgument):
                await publish("t", [1], timeout=value)
        assert (await client.publish("t", 1)).offset == 0
    assert sum(batch.count for batch in broker.batches) == 1


Call = Callable[[pubsubd.Client], Awaitable[object]]

WRONG_CALLS: dict[str, tuple[Call, type[Exception]]] = {
    "topic, a list": (lambda c: c.publish(["t"], 1), pubsubd.InvalidTopic),  # type: ignore[arg-type]
    "topic, a number": (lambda c: c.send(5, 1), pubsubd.InvalidTopic),  # type: ignore[arg-type]
    "topic, bytes": (lambda c: c.publish_many(b"t", [1]), pubsubd.InvalidTopic),  # type: ignore[arg-type]
    "topic of nothing": (lambda c: c.publish_many("a b", []), pubsubd.InvalidTopic),
    "topic, a wildcard": (lambda c: c.publish("a.>", 1), pubsubd.InvalidTopic),
    "topic, a wildcard for many": (lambda c: c.publish_many("a.*", [1]), pubsubd.InvalidTopic),
    "node, a number": (lambda c: c.publish("t", 1, to=5), pubsubd.InvalidArgument),  # type: ignore[arg-type]
    "codec, its name": (lambda c: c.publish("t", 1, codec="json"), pubsubd.InvalidArgument),  # type: ignore[arg-type]
    "codec, nothing": (lambda c: c.send("t", 1, codec=""), pubsubd.InvalidArgument),  # type: ignore[arg-type]
    "payloads, one": (lambda c: c.publish_many("t", b"abc"), pubsubd.InvalidArgument),
    "payloads, none": (lambda c: c.publish_many("t", 5), pubsubd.InvalidArgument),  # type: ignore[arg-type]
    "payloads, a mapping": (lambda c: c.publish_many("t", {"a": 1}), pubsubd.InvalidArgument),
    "payload, a set": (lambda c: c.publish("t", {1}), pubsubd.EncodeError),
    "payloads, a set among them": (lambda c: c.publish_many("t", [1, {1}]), pubsubd.EncodeError),
    "payload, too large": (lambda c: c.publish_many("t", [1, "x" * 999]), pubsubd.MessageTooLarge),
}


@async_test
@pytest.mark.parametrize(("call", "error"), WRONG_CALLS.values(), ids=WRONG_CALLS)
async def test_a_wrong_argument_raises_before_anything_is_published(
    tmp_path: Path, call: Call, error: type[Exception]
) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.max_message = 500
        async with pubsubd.connect(broker.path) as client:
            with pytest.raises(error) as caught:
                await call(client)
            assert isinstance(caught.value, pubsubd.PubSubError)
            assert (await client.publish("t", 1)).offset == 0
    assert [batch.count for batch in broker.batches] == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 5},
        {"codec": "json"},
        {"codec": None},
        {"publish_timeout_s": timedelta(seconds=1)},
        {"connect_timeout_s": 0},
        {"connect_timeout_s": "1"},
        {"close_timeout_s": float("nan")},
        {"on_lost": "print"},
        {"on_restored": 1},
    ],
    ids=str,
)
def test_connect_refuses_what_it_would_stumble_over_later(wrong: dict[str, Any]) -> None:
    with pytest.raises(pubsubd.InvalidArgument, match=next(iter(wrong))):
        pubsubd.connect("missing", **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": ["latest"]},
        {"start": None},
        {"ack": True},
        {"echo": "no"},
        {"echo": 1},
        {"name": 5},
        {"codec": "json"},
        {"on_expired": "reload"},
        {"position": [1]},
    ],
    ids=str,
)
def test_subscribe_refuses_what_it_would_stumble_over_later(wrong: dict[str, Any]) -> None:
    client = pubsubd.connect("missing")
    with pytest.raises(pubsubd.PubSubError) as caught:
        client.subscribe("t", **wrong)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(pubsubd.InvalidTopic):
        client.subscribe(["t"])  # type: ignore[arg-type]
    with pytest.raises(pubsubd.InvalidTopic, match=r"perhaps 'orders\.>'"):
        client.subscribe("orders/#")


@async_test
async def test_an_open_subscription_refuses_wrong_arguments_and_goes_on(tmp_path: Path) -> None:
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path) as client,
        client.subscribe("t") as subscription,
        client.subscribe("t", name="n", ack="manual") as named,
    ):
        with pytest.raises(pubsubd.InvalidTopic, match=r"perhaps 'a\.>'"):
            await subscription.add("a.**")
        for change in (subscription.add, subscription.remove):
            with pytest.raises(pubsubd.InvalidTopic):
                await change(5)  # type: ignore[arg-type]
        with pytest.raises(pubsubd.InvalidArgument):
            await named.ack(7)  # type: ignore[arg-type]
        broker.sessions[0].send(entry(0, "on"))
        message = await anext(subscription)
        assert message.payload == "on"
        with pytest.raises(pubsubd.InvalidArgument, match="manual"):
            await subscription.ack(message)


@async_test
async def test_the_other_public_calls_refuse_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(pubsubd.InvalidArgument, match="reload"):
        pubsubd.single_flight("reload")  # type: ignore[arg-type]
    with pytest.raises(pubsubd.InvalidArgument, match="jitter_s"):
        pubsubd.single_flight(print, jitter_s=float("inf"))
    with pytest.raises(pubsubd.InvalidArgument, match="codec"):
        pubsubd.Codec("mine", "encode", bytes)  # type: ignore[arg-type]
    with pytest.raises(pubsubd.InvalidArgument, match="timeout_s"):
        await control.query(tmp_path / "missing", "status", timeout_s=0)


@async_test
@pytest.mark.parametrize(
    "value",
    [*(None, b"status", [], 5, math.nan, 1 + 2j, object(), timedelta(1)), "x" * 65, "\ud800"],
    ids=lambda value: type(value).__name__,
)
async def test_a_question_that_cannot_be_asked_is_refused_before_it_is(
    tmp_path: Path, value: Any
) -> None:
    with pytest.raises(pubsubd.InvalidArgument, match=r"^what "):
        await control.query(tmp_path / "missing", value)
    if value is not None and value != "x" * 65:
        with pytest.raises(pubsubd.InvalidArgument, match=r"^argument "):
            await control.query(tmp_path / "missing", "drop_cursor", value)


def test_wrong_arguments_are_also_the_errors_that_python_has_for_them() -> None:
    for error in (pubsubd.InvalidArgument, pubsubd.EncodeError):
        assert issubclass(error, pubsubd.PubSubError)
        assert issubclass(error, ValueError)
        assert issubclass(error, TypeError)


# Payloads that cannot be encoded


def _as_text(value: Any) -> Any:
    return str(value)


UNENCODABLE: list[tuple[pubsubd.Codec, Any, str]] = [
    (pubsubd.MSGPACK, {("a", 1): 2}, "key"),
    (pubsubd.MSGPACK, [{"deep": [{(): 1}]}], "key"),
    (pubsubd.MSGPACK, 2**64, "Overflow"),
    (pubsubd.MSGPACK, {"x": object()}, "object"),
    (pubsubd.MSGPACK, "\ud800", "surrogates"),
    (pubsubd.JSON, float("nan"), "JSON"),
    (pubsubd.JSON, [float("inf")], "JSON"),
    (pubsubd.JSON, {1: 2}, "strings"),
    (pubsubd.JSON, [{"deep": {None: 1}}], "strings"),
    (pubsubd.JSON, {("a", 1): 2}, "tuple"),
    (pubsubd.JSON, {1, 2}, "set"),
    (pubsubd.RAW, "text", "str"),
    (pubsubd.Codec("mine", _as_text, str), 5, "must return bytes, not"),
]


@async_test
@pytest.mark.parametrize(
    ("codec", "payload", "why"), UNENCODABLE, ids=lambda value: getattr(value, "name", None)
)
async def test_what_cannot_be_encoded_is_told_with_topic_and_type(
    tmp_path: Path, codec: pubsubd.Codec, payload: Any, why: str
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path, codec=codec) as client:
        calls = [
            client.publish("orders.new", payload),
            client.publish_many("orders.new", [payload]),
            client.send("orders.new", payload),
        ]
        for call in calls:
            with pytest.raises(pubsubd.EncodeError, match=why) as caught:
                await call
            error = caught.value
            assert (error.topic, error.type) == ("orders.new", type(payload).__name__)
            assert error.codec == codec.name
            assert "'orders.new'" in str(error)
        await client.flush()
    assert broker.batches == []


_KEYS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    st.tuples(st.integers()),
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        *(_KEYS, st.binary().map(bytearray), st.binary().map(lambda b: memoryview(b))),
        st.sets(st.integers()),
    ),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(_KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=_VALUES)
@pytest.mark.parametrize("codec", [pubsubd.MSGPACK, pubsubd.JSON, pubsubd.RAW])
def test_what_a_codec_encodes_it_decodes(codec: pubsubd.Codec, value: Any) -> None:
    try:
        raw = codec.encode(value)
    except (TypeError, ValueError, OverflowError):
        return
    again = codec.decode(raw)
    # Once more, and nothing changes: no key has become another.
    assert codec.encode(again) == raw


# Callbacks of the loop


@pytest.mark.interpreted
@async_test
@pytest.mark.parametrize("broken", ["end_turn", "writable", "expire"])
async def test_an_error_in_a_callback_of_the_loop_leaves_nobody_waiting(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.answers = False
        outbox = client._publisher.outbox

        def fail(*_: object) -> None:
            monkeypatch.undo()
            raise RuntimeError("a fault of the client")

        monkeypatch.setattr(outbox, broken, fail)
        with pytest.raises(pubsubd.PubSubError, match="a fault of the client"):
            await client.publish("t", 1, timeout=0.05)
        broker.answers = True
        await client.publish("t", 2)
    assert [str(error) for error in told] == ["a fault of the client"]
