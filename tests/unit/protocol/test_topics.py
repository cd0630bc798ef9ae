"""Topics, patterns and filters: a table, and a naive matcher to compare with."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.counting import calls_of
from tests.unit.examples import examples

from pubsubd_protocol.errors import InvalidTopic
from pubsubd_protocol.topics import (
    MAX_PATTERNS,
    MAX_SHAPES,
    Filter,
    check_asked,
    check_pattern,
    check_publishable,
    check_topic,
    covers,
    matches,
    split_topics,
    wildcard_in,
)


@pytest.mark.parametrize(
    "topic",
    [
        "a",
        "orders.created",
        "room:42",
        "a.b.c.d.e",
        "*",
        ">",
        "a.*.b",
        "a.>.b",
        "a..b",
        ".",
        "a.",
        ".a",
        "größe.straße",
        "🙂",
        "x" * 255,
        "é" * 127 + "x",
        "🙂" * 63 + "abc",
        "{}[]()\\^$|?+",
    ],
)
def test_topics(topic: str) -> None:
    assert check_topic(topic) == topic
    assert split_topics(topic) == [topic]


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("", "is empty"),
        ("a b", "is invalid: ' ' at 1 "),
        ("a\n", r"is invalid: '\\n' at"),
        ("\t", r"is invalid: '\\t' at"),
        ("a\x00", r"is invalid: '\\x00' at"),
        ("\x7f", r"is invalid: '\\x7f' at"),
        ("\x85", r"is invalid: '\\x85' at"),
        ("\xa0", r"is invalid: '\\xa0' at"),
        ("a\u2028b", r"is invalid: '\\u2028' at"),
        ("a\u3000b", r"is invalid: '\\u3000' at"),
        ("\ud800", r"is invalid: '\\ud800' at"),
        ("x" * 256, "is 256 bytes of UTF-8, the limit is 255"),
        ("é" * 128, "is 256 bytes of UTF-8, the limit is 255"),
        ("🙂" * 64, "is 256 bytes of UTF-8, the limit is 255"),
    ],
)
def test_an_invalid_topic_is_told_which_rule_it_breaks(topic: str, text: str) -> None:
    with pytest.raises(InvalidTopic, match=text):
        check_topic(topic)


def test_a_topic_is_a_string() -> None:
    with pytest.raises(InvalidTopic, match="a topic is a string, not bytes"):
        check_topic(b"a")


@pytest.mark.parametrize("pattern", ["a.>.b", ">.a", ">.>", "a.>.>"])
def test_the_rest_can_only_be_the_last_segment(pattern: str) -> None:
    with pytest.raises(InvalidTopic, match="can only be the last segment"):
        check_pattern(pattern)


MATCHES: list[tuple[str, str, bool]] = [
    ("a", "a", True),
    ("a", "b", False),
    ("a", "a.b", False),
    ("a", "A", False),
    ("*", "a", True),
    ("*", "a.b", False),
    ("*", ".", False),
    ("a.*", "a.b", True),
    ("a.*", "a", False),
    ("a.*", "a.b.c", False),
    ("a.*.c", "a.b.c", True),
    ("a.*.c", "a.b.d", False),
    ("*.*", "a.b", True),
    ("*.*", "a", False),
    ("rooms.*.joined", "rooms.42.joined", True),
    ("rooms.*.joined", "rooms.42.left", False),
    (">", "a", True),
    (">", "a.b.c", True),
    ("a.>", "a.b", True),
    ("a.>", "a.b.c.d", True),
    ("a.>", "a", False),
    ("a.>", "ab.c", False),
    ("*.>", "a.b", True),
    ("*.>", "a", False),
    ("a.*.>", "a.b.c", True),
    ("a.*.>", "a.b", False),
    # An empty segment is a segment like any other.
    ("a..b", "a..b", True),
    ("a..b", "a.b", False),
    ("a.*.b", "a..b", True),
    ("a.*", "a.", True),
    ("a.>", "a.", True),
    ("a.", "a.", True),
    ("a.", "a", False),
    (".>", ".a", True),
    ("*.a", ".a", True),
    # The two wildcards are whole segments; inside one they are characters.
    ("a*", "a*", True),
    ("a*", "ab", False),
    ("a.b>", "a.b>", True),
    ("a.b>", "a.bc", False),
    ("**", "ab", False),
    (">>", "a", False),
    ("*a.b", "xa.b", False),
    # Characters of regular expressions are literal here.
    ("a.b", "axb", False),
    ("a+.*", "aa.b", False),
    ("a+.*", "a+.b", True),
    ("(a|b).*", "a.x", False),
    ("[ab].>", "a.x", False),
    # A published topic may contain the wildcards' characters; they are literal.
    ("a.*", "a.*", True),
    ("a.>", "a.>", True),
    ("a.b", "a.*", False),
]


@pytest.mark.parametrize(("pattern", "topic", "matches"), MATCHES)
def test_pattern_table(pattern: str, topic: str, matches: bool) -> None:
    assert Filter([pattern]).wants(topic) is matches


def naive_match(pattern: str, topic: str) -> bool:
    wanted, given_ = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given_) <= len(wanted):
            return False
        given_ = given_[: len(wanted)]
    return len(wanted) == len(given_) and all(
        w in ("*", g) for w, g in zip(wanted, given_, strict=True)
    )


_segment = st.sampled_from(["", "a", "b", "ab", "*", ">", "a*", ".".join("é"), "+", "\\"])
_topic = st.lists(_segment, min_size=1, max_size=5).map(".".join).filter(bool)
_pattern = _topic.filter(lambda p: ">" not in p.split(".")[:-1])


@settings(max_examples=examples(200))
@given(st.lists(_pattern, max_size=5), st.lists(_topic, min_size=1, max_size=8))
def test_a_filter_wants_what_any_of_its_patterns_matches(
    patterns: list[str], topics: list[str]
) -> None:
    filter_ = Filter(patterns)
    for topic in topics * 2:  # the second time out of memory
        assert filter_.wants(topic) == any(naive_match(p, topic) for p in patterns)


COVERS: list[tuple[str, str, bool]] = [
    ("a", "a", True),
    ("a", "b", False),
    ("a", "*", False),
    ("a", ">", False),
    ("*", "a", True),
    ("*", "*", True),
    ("*", ">", False),
    ("*", "a.b", False),
    (">", ">", True),
    (">", "*", True),
    (">", "a", True),
    (">", "a.*.>", True),
    ("a.>", "a", False),
    ("a.>", "a.b", True),
    ("a.>", "a.*", True),
    ("a.>", "a.>", True),
    ("a.>", "a.*.b.>", True),
    ("a.>", "*.b", False),
    ("a.>", "*.>", False),
    ("a.>", ">", False),
    ("a.*", "a.>", False),
    ("a.*", "a.b.>", False),
    ("*.>", "a.>", True),
    ("*.>", ">", False),
    ("*.>", "*", False),
    ("a.*.>", "a.>", False),
    ("a.*.>", "a.*.*", True),
    ("a.*.>", "a.*.*.>", True),
    ("*.b", "a.*", False),
    ("a.*.c", "a.b.c", True),
    ("a.*.c", "a.*.*", False),
    # An empty segment is a segment like any other; inside one the wildcards are characters.
    ("a.*", "a.", True),
    ("a.>", "a.", True),
    ("a.>", "a", False),
    ("a*", "ab", False),
    ("a*", "a*", True),
    ("*", ">>", True),
]


@pytest.mark.parametrize(("allowed", "asked", "covered"), COVERS)
def test_cover_table(allowed: str, asked: str, covered: bool) -> None:
    assert covers(allowed.split("."), asked.split(".")) is covered


@settings(max_examples=examples(200))
@given(_pattern, _pattern, st.lists(_topic, min_size=1, max_size=8))
def test_what_is_covered_matches_nothing_that_is_not_allowed(
    allowed: str, asked: str, topics: list[str]
) -> None:
    if covers(allowed.split("."), asked.split(".")):
        wide, narrow = Filter([allowed]), Filter([asked])
        assert all(wide.wants(topic) for topic in topics if narrow.wants(topic))


def test_covers_is_what_matching_says_of_every_short_pattern() -> None:
    """By brute force. A topic tells two patterns apart if any does that is a segment longer than they are, and has
    a segment that neither spells out.
    """

    def joined(segments: tuple[str, ...], most: int) -> list[str]:
        rows = (row for n in range(1, most + 1) for row in itertools.product(segments, repeat=n))
        return [text for text in map(".".join, rows) if text]

    patterns = [p for p in joined(("", "a", "b", "*", ">"), 3) if ">" not in p.split(".")[:-1]]
    topics = joined(("", "a", "b", "c", "*", ">"), 4)
    matched = {p: frozenset(filter(Filter([p]).matches, topics)) for p in patterns}
    pairs = list(itertools.product(patterns, repeat=2))
    assert [(a, b) for a, b in pairs if covers(a.split("."), b.split("."))] == [
        (a, b) for a, b in pairs if matched[b] <= matched[a]
    ]
    assert len(patterns) == 104


def test_overlapping_patterns_are_one_wish() -> None:
    filter_ = Filter(["a.>", "a.*", "a.b", "a.b"])
    assert filter_.patterns == ("a.>", "a.*", "a.b")
    assert filter_.wants("a.b")


def test_everything_is_known_as_everything() -> None:
    assert Filter(["a", ">"]).everything
    assert not Filter(["a.>"]).everything
    assert not Filter(["*"]).everything


def test_no_pattern_wants_nothing() -> None:
    assert not Filter([]).wants("a")


def test_too_many_patterns_are_refused_with_figures() -> None:
    Filter(f"t{i}" for i in range(MAX_PATTERNS))
    with pytest.raises(InvalidTopic, match="1025 patterns in one session, the limit is 1024"):
        Filter(f"t{i}" for i in range(MAX_PATTERNS + 1))


def spread(count: int) -> list[str]:
    """Patterns that have their wildcards each in another place."""
    return ["a." * i + "*" + ".b" * (MAX_SHAPES - i) for i in range(count)]


def test_wildcards_in_too_many_places_are_refused_with_figures() -> None:
    assert Filter(spread(MAX_SHAPES)).wants("x" + ".b" * MAX_SHAPES)
    with pytest.raises(InvalidTopic, match=r"33 different places of wildcards .*, the limit is 32"):
        Filter(spread(MAX_SHAPES + 1))


def test_the_cost_of_the_largest_filter_is_bounded_by_its_text() -> None:
    """A session's patterns are its own choice, and the broker has one thread for all."""
    stars = ".*" * (MAX_SHAPES - 4)
    many = [f"{i:04d}{'.*' * (i % MAX_SHAPES)}{stars}" for i in range(MAX_PATTERNS)]
    calls = calls_of(lambda: Filter(many).wants("a" + stars))
    assert calls < sum(map(len, many))


def test_the_memory_of_a_filter_is_bounded() -> None:
    filter_ = Filter(["even.*.0"])
    for i in range(10_000):
        assert filter_.wants(f"even.{i}.{i % 2}") is (i % 2 == 0)
        assert len(filter_._answers) <= 4096


def outcome(of: Callable[[], list[str]]) -> list[str] | str:
    try:
        return of()
    except InvalidTopic as error:
        return str(error)


@given(st.lists(st.text(max_size=5) | st.text(min_size=60, max_size=300), max_size=5))
def test_splitting_a_list_agrees_with_checking_each(texts: list[str]) -> None:
    joined = "\n".join(texts)
    parts = joined.split("\n")
    assert outcome(lambda: split_topics(joined)) == outcome(lambda: [*map(check_topic, parts)])


def test_a_list_with_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidTopic):
        split_topics("a\n\ud800")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("a.cre*", "a.*"),
        ("orders/#", "orders.>"),
        ("orders/+/new", "orders.*.new"),
        ("orders/*", "orders.*"),
        ("a.**", "a.>"),
        ("a.**.b", "a.*.b"),
        ("a.#", "a.>"),
        ("+.b", "*.b"),
        ("#", ">"),
        ("a.b>", "a.*"),
        ("*x", "*"),
    ],
)
def test_a_false_wildcard_is_refused_with_the_right_form(pattern: str, meant: str) -> None:
    with pytest.raises(InvalidTopic, match=re.escape(f"perhaps {meant!r}")):
        check_asked(pattern)
    check_asked(meant)
    with pytest.raises(InvalidTopic):
        matches(pattern, "a.b")


@pytest.mark.parametrize(
    "pattern", ["room:42", "a.*.>", "c#", "a+b", "c++.new", "orders/new", "a?", "{x}", "a..b", ">"]
)
def test_any_other_character_of_a_pattern_is_literal(pattern: str) -> None:
    assert check_asked(pattern) == pattern


@pytest.mark.parametrize("topic", ["*", ">", "a.>", "a.*", "*.b", "a.*.b", ">.a"])
def test_a_topic_with_a_wildcard_segment_is_not_published_on(topic: str) -> None:
    with pytest.raises(InvalidTopic, match="is a wildcard"):
        check_publishable(topic)
    assert wildcard_in(f"a\n{topic}\nb") in ("*", ">")


@pytest.mark.parametrize("topic", ["a*", "a.b>", "**", "a.>>", "a"])
def test_a_wildcard_beside_other_characters_is_literal_in_a_topic(topic: str) -> None:
    assert check_publishable(topic) == topic
    assert wildcard_in(f"a\n{topic}\nb") is None


@pytest.mark.parametrize(("pattern", "topic", "wanted"), MATCHES)
def test_matches_says_what_a_subscription_would_get(pattern: str, topic: str, wanted: bool) -> None:
    try:
        check_asked(pattern)
    except InvalidTopic:
        return
    assert matches(pattern, topic) is wanted


@pytest.mark.parametrize("topic", ["a.cre*", "orders/#", "t>", "a.**"])
def test_a_wildcard_character_inside_a_segment_is_literal(
    topic: str,
) -> None:
    assert check_publishable(topic) == topic
    in_its_place = [*topic.split(".")[:-1], "*"]
    assert matches(".".join(in_its_place), topic)
    assert matches(">", topic)
    with pytest.raises(InvalidTopic, match="looks like it has wildcards"):
        check_asked(topic)
