"""Permissions: tables of the users that may connect, and of the topics that each may use."""

from __future__ import annotations

import pytest

from pubsubd_broker.core.access.permissions import (
    EVERYTHING,
    AllowedUsers,
    Rights,
    TopicRule,
    TopicRules,
)
from pubsubd_protocol.errors import InvalidTopic
from pubsubd_protocol.topics import MAX_PATTERNS

OWN = 900


def allowed(uids: set[int], gids: set[int]) -> AllowedUsers:
    return AllowedUsers(frozenset(uids), frozenset(gids), OWN)


@pytest.mark.parametrize(
    ("uids", "gids", "client", "admitted"),
    [
        # Without a list every user that can open the socket may connect.
        (set(), set(), (1, 1, ()), True),
        ({1}, set(), (1, 5, ()), True),
        ({1}, set(), (2, 5, ()), False),
        ({1, 2}, set(), (2, 5, ()), True),
        # Primary or supplementary, a group is a group.
        (set(), {5}, (1, 5, ()), True),
        (set(), {5}, (1, 6, (7, 5)), True),
        (set(), {5}, (1, 6, (7, 8)), False),
        (set(), {5}, (1, 6, ()), False),
        # One of the two is enough.
        ({1}, {5}, (1, 6, ()), True),
        ({1}, {5}, (2, 5, ()), True),
        ({1}, {5}, (2, 6, (7,)), False),
        # A user id does not stand for the group with the same number.
        ({5}, set(), (1, 5, (5,)), False),
        (set(), {1}, (1, 5, (5,)), False),
        # The broker's own user is never kept out, root is if it is not listed.
        ({1}, {5}, (OWN, 6, ()), True),
        (set(), {5}, (OWN, 6, ()), True),
        ({1}, set(), (2, OWN, (OWN,)), False),
        ({1}, {5}, (0, 0, (0,)), False),
    ],
)
def test_users_that_may_connect(
    uids: set[int], gids: set[int], client: tuple[int, int, tuple[int, ...]], admitted: bool
) -> None:
    assert allowed(uids, gids).admits(*client) is admitted
    uid, gid, groups = client
    assert allowed(uids, gids).admits(uid, gid, frozenset(groups)) is admitted


def rule(
    publish: str = "", subscribe: str = "", uids: tuple[int, ...] = (), gids: tuple[int, ...] = ()
) -> TopicRule:
    return TopicRule(
        frozenset(uids), frozenset(gids), tuple(publish.split()), tuple(subscribe.split())
    )


def test_without_any_rule_everything_is_allowed() -> None:
    rights = TopicRules(()).for_client(1, 1, ())
    assert rights is EVERYTHING
    for topic in ("a", "a.b.c", "*", "a.>"):
        assert rights.may_publish(topic)
    for pattern in (">", "*", "a.>", "a.*.b", "a"):
        assert rights.may_subscribe(pattern)


def test_a_client_without_a_rule_may_do_nothing() -> None:
    rights = TopicRules([rule(">", ">", uids=(1,))]).for_client(2, 2, ())
    assert not rights.may_publish("a")
    for pattern in (">", "*", "a"):
        assert not rights.may_subscribe(pattern)


def test_to_publish_and_to_subscribe_are_allowed_apart() -> None:
    rights = TopicRules([rule("orders.*", "invoices.>", uids=(1,))]).for_client(1, 1, ())
    assert rights.may_publish("orders.created")
    assert not rights.may_publish("orders.created.twice")
    assert not rights.may_publish("invoices.sent")
    assert rights.may_subscribe("invoices.>")
    assert rights.may_subscribe("invoices.*.late")
    assert not rights.may_subscribe("orders.*")
    assert not rights.may_subscribe("invoices")


RULES = TopicRules(
    [
        rule("a", "a", uids=(1,)),
        rule("b", "b.*", gids=(5,)),
        rule("c", "b.>", uids=(1, 2), gids=(6,)),
        rule("", "public.>"),
    ]
)


@pytest.mark.parametrize(
    ("client", "publish", "subscribe"),
    [
        ((1, 9, ()), "ac", "a b.* b.> public.x"),
        ((2, 9, ()), "c", "b.* b.> public.x"),
        ((3, 5, ()), "b", "b.* public.x"),
        ((3, 9, (8, 5)), "b", "b.* public.x"),
        ((1, 5, (6,)), "abc", "a b.* b.> public.x"),
        # A rule that names no user is for all users.
        ((4, 9, ()), "", "public.x"),
    ],
)
def test_rules_that_are_for_one_client_add_up(
    client: tuple[int, int, tuple[int, ...]], publish: str, subscribe: str
) -> None:
    rights = RULES.for_client(*client)
    assert "".join(topic for topic in "abcd" if rights.may_publish(topic)) == publish
    asked = ("a", "b.*", "b.>", "c", "public.x", "public", ">")
    assert [p for p in asked if rights.may_subscribe(p)] == subscribe.split()


@pytest.mark.parametrize(
    ("patterns", "asked", "allowed_"),
    [
        ("orders.>", "orders.>", True),
        ("orders.>", "orders.*", True),
        ("orders.>", ">", False),
        ("orders.>", "*.created", False),
        ("*.created", "*.created", True),
        ("a.x a.y", "a.*", False),
        # Together they cover it, and neither does alone.
        ("* *.>", ">", False),
    ],
)
def test_a_subscription_is_covered_by_one_pattern_or_refused(
    patterns: str, asked: str, allowed_: bool
) -> None:
    assert Rights((), patterns.split()).may_subscribe(asked) is allowed_


def test_an_invalid_pattern_is_refused_when_the_rules_are_read() -> None:
    for broken in (rule("a.>.b"), rule("", ">.a")):
        with pytest.raises(InvalidTopic, match="can only be the last segment"):
            TopicRules([rule("a", "b"), broken])


def test_rules_too_large_for_a_client_are_refused_at_once() -> None:
    many = " ".join(f"t{number}" for number in range(MAX_PATTERNS))
    TopicRules([rule(many, many), rule(many, many)])
    for too_many in (rule("one.more"), rule("", "one.more")):
        with pytest.raises(InvalidTopic, match="1025 patterns"):
            TopicRules([rule(many, many, uids=(1,)), too_many])
