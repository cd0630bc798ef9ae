"""Permissions of local users: to connect, and to publish and subscribe on topics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from pubsubd_protocol.topics import EVERY_TOPIC, Filter, check_asked, covers


@dataclass(frozen=True, slots=True)
class AllowedUsers:
    """The users and groups that the settings list. `own`: the broker's uid, which is never kept out."""

    uids: frozenset[int]
    gids: frozenset[int]
    own: int

    def admits(self, uid: int, gid: int, groups: Collection[int]) -> bool:
        """Whether this client may come in. With an empty list, all come in whom the mode of the socket lets in."""
        return uid == self.own or _is_among(self.uids, self.gids, uid, gid, groups)


ALL_USERS: Final = AllowedUsers(frozenset(), frozenset(), 0)
"""All whom the mode of the socket lets in."""


class Rights:
    """Rights of one client."""

    __slots__ = ("_subscribable", "may_publish", "publishable")

    def __init__(self, publish: Iterable[str], subscribe: Iterable[str]) -> None:
        """Patterns of the topics. Raises `InvalidTopic` for one that is none, or if they are too many."""
        what = Filter(publish)
        self.publishable = what.patterns
        self.may_publish: Callable[[str], bool] = what.wants
        """Whether it may publish on a topic. Remembered, so asking again costs no call of Python."""
        self._subscribable = [pattern.split(".") for pattern in Filter(subscribe).patterns]

    def may_subscribe(self, pattern: str) -> bool:
        """Whether one pattern that it may subscribe to covers `pattern`; several together never do."""
        asked = pattern.split(".")
        return any(covers(allowed, asked) for allowed in self._subscribable)


EVERYTHING: Final = Rights((EVERY_TOPIC,), (EVERY_TOPIC,))


@dataclass(frozen=True, slots=True)
class TopicRule:
    """Rights of some clients; a rule that lists no user and no group is for every client."""

    uids: frozenset[int]
    gids: frozenset[int]
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def is_for(self, uid: int, gid: int, groups: Collection[int]) -> bool:
        return _is_among(self.uids, self.gids, uid, gid, groups)


class TopicRules:
    """All rules. Several that are for one client add up."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[TopicRule]) -> None:
        """Raises `InvalidTopic` for a pattern that is none, or if all together are too many for one client."""
        self._rules = tuple(rules)
        for rule in self._rules:
            for pattern in (*rule.publish, *rule.subscribe):
                check_asked(pattern)
        _add_up(self._rules)

    def for_client(self, uid: int, gid: int, groups: Collection[int]) -> Rights:
        """The rights of one client. Without any rule, all rights; with rules, only those that they give."""
        if not self._rules:
            return EVERYTHING
        return _add_up([rule for rule in self._rules if rule.is_for(uid, gid, groups)])


def _add_up(rules: Collection[TopicRule]) -> Rights:
    return Rights(
        chain.from_iterable(rule.publish for rule in rules),
        chain.from_iterable(rule.subscribe for rule in rules),
    )


def _is_among(
    uids: frozenset[int], gids: frozenset[int], uid: int, gid: int, groups: Collection[int]
) -> bool:
    if not uids and not gids:
        return True
    return uid in uids or gid in gids or not gids.isdisjoint(groups)


NO_RULES: Final = TopicRules(())
