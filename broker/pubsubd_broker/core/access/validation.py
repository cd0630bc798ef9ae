"""Validation of well-formed frames: bounds, permissions, and whether the node that a batch is for is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pubsubd_broker.core.access.permissions import EVERYTHING, Rights
from pubsubd_broker.core.limits import Limits
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.topics import MAX_TOPIC_BYTES, wildcard_in

Rejection = tuple[str, str, int | None, int | None]
"""Code and detail of a `Rejected`, and its figures: how much it is, how much is allowed."""


def rejection_of(
    batch: Batch, limits: Limits, rights: Rights, node: str, knows: Callable[[str], bool]
) -> Rejection | None:
    """The rejection of `batch`, if it is not to be placed. Cost: that of counting its topics, unless there are rules for them.

    `node`: this one. `knows`: whether it has met the node of a name.
    """
    if batch.count > limits.batch_messages:
        return _too_many("too_many_messages", "messages", batch.count, limits.batch_messages)
    topics = batch.topics.count("\n") + 1
    if topics > limits.batch_topics:
        return _too_many("too_many_topics", "topics", topics, limits.batch_topics)
    # Most batches have neither character: a call for each of them would be the dearest part of this rule.
    if ("*" in batch.topics or ">" in batch.topics) and (
        wildcard := wildcard_in(batch.topics)
    ) is not None:
        detail = f"a topic has a segment '{wildcard}', which is a wildcard: only patterns to subscribe to have those"
        return "invalid_topic", detail, None, None
    if limits.topic_bytes < MAX_TOPIC_BYTES:
        longest = max(len(topic.encode()) for topic in batch.topics.split("\n"))
        if longest > limits.topic_bytes:
            detail = f"a topic has {longest} bytes, allowed are {limits.topic_bytes}"
            return "topic_too_long", detail, longest, limits.topic_bytes
    if rights is not EVERYTHING:
        for topic in batch.topics.split("\n"):
            if not rights.may_publish(topic):
                detail = f"this user may not publish on {topic!r}: no --topic-rule allows it"
                return "not_allowed", detail, None, None
    if batch.to is not None and not knows(batch.to):
        detail = f"no node {batch.to!r} was ever seen by {node}: check the name"
        return "unknown_node", detail, None, None
    return None


def check_filter(patterns: Sequence[str], limits: Limits, rights: Rights) -> None:
    """Raises `ConnectionRefused` if a session may not read these."""
    if len(patterns) > limits.patterns:
        raise ConnectionRefused(
            "too_many_patterns",
            f"{len(patterns)} patterns in one session, allowed are {limits.patterns}",
        )
    longest = max((len(pattern.encode()) for pattern in patterns), default=0)
    if longest > limits.topic_bytes:
        raise ConnectionRefused(
            "topic_too_long", f"a pattern has {longest} bytes, allowed are {limits.topic_bytes}"
        )
    if rights is not EVERYTHING:
        for pattern in patterns:
            if not rights.may_subscribe(pattern):
                raise ConnectionRefused(
                    "not_allowed",
                    f"this user may not subscribe to {pattern!r}: no --topic-rule allows all of it",
                )


def _too_many(code: str, what: str, count: int, most: int) -> Rejection:
    return code, f"a batch of {count} {what}, allowed are {most}", count, most
