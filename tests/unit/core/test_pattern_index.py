"""The index finds the same owners for a topic as asking each owner's filter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pubsubd_broker.core.log.pattern_index import PatternIndex
from pubsubd_protocol.topics import Filter

WORDS = st.sampled_from(["a", "b", "*"])
PATTERNS = st.builds(
    lambda words, rest: ".".join([*words, *rest]),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)
OWNED = st.lists(st.lists(PATTERNS, min_size=1, max_size=4, unique=True).map(tuple), max_size=6)


@given(OWNED, st.sets(st.integers(0, 5)), st.lists(WORDS, min_size=1, max_size=4))
def test_the_owners_are_those_whose_filter_wants_the_topic(
    owned: list[tuple[str, ...]], gone: set[int], words: list[str]
) -> None:
    index: PatternIndex[int] = PatternIndex()
    for owner, patterns in enumerate(owned):
        index.add(owner, patterns)
    for owner, patterns in enumerate(owned):
        if owner in gone:
            index.remove(owner, patterns)
    topic = ".".join(words)
    left = {owner: patterns for owner, patterns in enumerate(owned) if owner not in gone}
    found = index.owners(topic)
    assert sorted(found) == [o for o, patterns in left.items() if Filter(patterns).wants(topic)]
    assert index.patterns == sum(map(len, left.values()))


def test_no_pattern_is_left_when_all_owners_are_gone() -> None:
    index: PatternIndex[str] = PatternIndex()
    index.add("one", ("a", "a.*", "b.>"))
    index.add("two", ("a.*", "*.b"))
    assert index.looks == 4
    index.remove("one", ("a", "a.*", "b.>"))
    index.remove("two", ("a.*", "*.b"))
    assert (index.looks, index.patterns, index.owners("a.b")) == (0, 0, ())
