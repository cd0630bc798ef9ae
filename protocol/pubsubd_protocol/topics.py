"""Topics, patterns, and the filter through which a session reads.

A topic is 1–255 bytes of UTF-8 without white space or control characters; `.` separates segments.
In a pattern the segment `*` stands for any one segment, a last segment `>` for one or more.
Any other character is literal. Lists of topics travel joined by line feeds, which no topic can contain.

The SDK is stricter than the broker in two rules: a topic to publish on has no segment `*` or `>`, and a pattern does
not look like a wildcard of another system. The broker takes both, because older clients may use such names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from pubsubd_protocol.errors import InvalidTopic

EVERY_TOPIC = ">"
MAX_TOPIC_BYTES = 255
MAX_PATTERNS = 1024
MAX_SHAPES = 32
"""Different shapes (places of wildcards) that the patterns of one session may have at most."""

_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FORBIDDEN_IN_LIST = re.compile(r"[^\S\n]|[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# A string of at most this length in characters is within MAX_TOPIC_BYTES: UTF-8 takes at most 4 bytes a character.
_SURELY_SHORT = MAX_TOPIC_BYTES // 4

_REMEMBERED_TOPICS = 4096

_WILDCARD_SEGMENT = re.compile(r"(?:\A|[.\n])[*>](?=[.\n]|\Z)")
_FOREIGN = re.compile(r"(?:\A|[./])[#+](?=[./]|\Z)")


def check_topic(topic: object) -> str:
    """`topic` itself. Raises `InvalidTopic`, which names the broken rule."""
    if not isinstance(topic, str):
        raise InvalidTopic(f"a topic is a string, not {type(topic).__name__}")
    if not topic:
        raise InvalidTopic(f"topic '' is empty (topics: 1-{MAX_TOPIC_BYTES} bytes)")
    bad = _FORBIDDEN.search(topic)
    if bad is not None:
        raise InvalidTopic(
            f"topic {topic[:80]!r} is invalid: {bad.group()!r} at {bad.start()} "
            f"(topics: 1-{MAX_TOPIC_BYTES} bytes, no white space or control characters)"
        )
    if len(topic) > _SURELY_SHORT and len(topic.encode()) > MAX_TOPIC_BYTES:
        raise InvalidTopic(
            f"topic {topic[:40]!r}… is {len(topic.encode())} bytes of UTF-8, the limit is {MAX_TOPIC_BYTES}"
        )
    return topic


def check_pattern(pattern: object) -> str:
    """`pattern` itself. Raises `InvalidTopic`, which names the broken rule."""
    pattern = check_topic(pattern)
    if ">" in pattern.split(".")[:-1]:
        raise InvalidTopic(
            f"pattern {pattern!r} is invalid: '>' stands for the rest of a topic and can only be the last segment"
        )
    return pattern


def check_publishable(topic: object) -> str:
    """`topic` itself, if an application may publish on it. Raises `InvalidTopic`.

    Only a whole segment is a wildcard. Elsewhere `*`, `>` and `#` are literal: topics that come from another broker may
    contain them. A pattern matches such a topic by `*` or `>` at that segment.
    """
    topic = check_topic(topic)
    if ("*" in topic or ">" in topic) and (wildcard := wildcard_in(topic)) is not None:
        raise InvalidTopic(
            f"topic {topic!r} has a segment '{wildcard}', which is a wildcard: only a subscription's patterns have "
            "wildcards. Publish on one topic, without it"
        )
    return topic


def wildcard_in(topics: str) -> str | None:
    """The first segment that is a wildcard, in a topic or in topics joined by line feeds; None without one."""
    found = _WILDCARD_SEGMENT.search(topics)
    return None if found is None else found.group()[-1]


def check_asked(pattern: object) -> str:
    """`pattern` itself, if an application may ask for it. Raises `InvalidTopic` with the form that was perhaps meant.

    Refused are `*` and `>` beside other characters of a segment (`a.cre*`, `a.**`), and `#` or `+` between dots or slashes
    (`orders/#`): none of them would match what it seems to.
    """
    pattern = check_pattern(pattern)
    segments = pattern.split(".")
    foreign = _FOREIGN.search(pattern) is not None
    beside = any(len(segment) > 1 and ("*" in segment or ">" in segment) for segment in segments)
    if foreign or beside:
        raise InvalidTopic(
            f"pattern {pattern!r} looks like it has wildcards, but has none: '*' stands for one whole segment between "
            f"dots, a last '>' for one or more; perhaps {_meant(pattern)!r}"
        )
    return pattern


def _meant(pattern: str) -> str:
    segments = re.split(r"[./]", pattern)
    for at, segment in enumerate(segments):
        if at == len(segments) - 1 and segment in ("**", "#", ">"):
            segments[at] = ">"
        elif segment in ("#", "+") or "*" in segment or ">" in segment:
            segments[at] = "*"
    return ".".join(segments)


def covers(allowed: list[str], asked: list[str]) -> bool:
    """Whether `allowed` matches every topic that `asked` matches. Both are segments of valid patterns. Cost: one pass."""
    wide, narrow = allowed, asked
    if wide[-1] == ">":
        wide = wide[:-1]
        if len(narrow) <= len(wide):
            return False
        # A last `>` allows any further segments.
        narrow = narrow[: len(wide)]
    if len(wide) != len(narrow) or (narrow and narrow[-1] == ">"):
        return False
    return all(w in ("*", n) for w, n in zip(wide, narrow, strict=True))


def split_topics(joined: str) -> list[str]:
    """The topics of a joined list. Raises `InvalidTopic` if one breaks a rule. Cost: C loops over the list."""
    topics = joined.split("\n")
    if (
        _FORBIDDEN_IN_LIST.search(joined) is not None
        or not all(topics)
        or len(max(topics, key=len)) > _SURELY_SHORT
    ):
        for topic in topics:
            check_topic(topic)
    return topics


class _Answers(dict[str, bool]):
    """A filter's answers by topic; calls the filter for a missing one. A hit costs no Python call."""

    __slots__ = ("_matches",)

    def __init__(self, matches: Callable[[str], bool]) -> None:
        self._matches = matches

    def __missing__(self, topic: str) -> bool:
        if len(self) >= _REMEMBERED_TOPICS:
            self.clear()
        wanted = self[topic] = self._matches(topic)
        return wanted


class Shape(NamedTuple):
    """The places of a pattern's wildcards: `stars` among the first `length` segments; `rest`: whether `>` follows."""

    length: int
    stars: tuple[int, ...]
    rest: bool

    @classmethod
    def of(cls, segments: list[str]) -> Shape:
        rest = segments[-1] == ">"
        length = len(segments) - rest
        return cls(length, tuple(i for i in range(length) if segments[i] == "*"), rest)

    def key_of(self, topic: list[str]) -> str | None:
        """The key of the one pattern of this shape that matches `topic`; None if no pattern of this shape can."""
        if not (len(topic) > self.length if self.rest else len(topic) == self.length):
            return None
        key = topic[: self.length]
        for index in self.stars:
            key[index] = "*"
        return ".".join(key)


def split_pattern(pattern: str) -> tuple[Shape | None, str]:
    """The shape of `pattern` and its key among the patterns of that shape. Without wildcards: None and the pattern."""
    segments = pattern.split(".")
    shape = Shape.of(segments)
    if shape.stars or shape.rest:
        return shape, ".".join(segments[: shape.length])
    return None, pattern


class Filter:
    """The patterns of one session. `wants(topic)`: whether any of them matches.

    The filter remembers its answers for up to 4,096 topics, so it matches a topic once, not once per message. A match
    costs one lookup for each shape, however many patterns have that shape: `room.*` and `user.*` cost one together.
    """

    __slots__ = ("_answers", "_exact", "_shapes", "everything", "looks", "patterns", "wants")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(dict.fromkeys(check_pattern(p) for p in patterns))
        if len(self.patterns) > MAX_PATTERNS:
            raise InvalidTopic(
                f"{len(self.patterns)} patterns in one session, the limit is {MAX_PATTERNS}"
            )
        exact: set[str] = set()
        self._shapes: dict[Shape, set[str]] = {}
        for pattern in self.patterns:
            shape, key = split_pattern(pattern)
            if shape is None:
                exact.add(key)
            else:
                self._shapes.setdefault(shape, set()).add(key)
        if len(self._shapes) > MAX_SHAPES:
            raise InvalidTopic(
                f"{len(self._shapes)} different places of wildcards in the patterns of one session, the limit is "
                f"{MAX_SHAPES}"
            )
        self._exact = frozenset(exact)
        self.everything = EVERY_TOPIC in self.patterns
        self.looks = 0 if self.everything else 1 + len(self._shapes)
        """Lookups that one topic costs."""
        self._answers = _Answers(self.matches)
        self.wants: Callable[[str], bool] = self._answers.__getitem__

    def matches(self, topic: str) -> bool:
        """The answer of `wants`, computed anew. For callers that remember the answer themselves."""
        if self.everything or topic in self._exact:
            return True
        segments = topic.split(".") if self._shapes else []
        return any(shape.key_of(segments) in key for shape, key in self._shapes.items())


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern` gets messages on `topic`. Raises `InvalidTopic`.

    `matches("orders.*", "orders.created")` is True: `*` stands for one segment, a last `>` for one or more.
    """
    return _filter_of(check_asked(pattern)).matches(check_topic(topic))


@lru_cache(maxsize=MAX_PATTERNS)
def _filter_of(pattern: str) -> Filter:
    return Filter((pattern,))
