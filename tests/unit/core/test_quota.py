"""A shared quota: the sum is bounded, and a user that takes all he can does not keep others out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pubsubd_broker.core.access.quota import Claimant, Quota

A, B = Claimant("a"), Claimant("b")
ROOT = Claimant("root", first=True)


def take_all(pool: Quota, claimant: Claimant) -> int:
    taken = 0
    while pool.change(claimant, 0, 1):
        taken += 1
    return taken


def test_one_who_takes_all_he_can_leaves_half_and_so_on() -> None:
    pool = Quota(64)
    assert [take_all(pool, Claimant(name)) for name in "abcde"] == [32, 16, 8, 4, 2]
    assert pool.used == 62


def test_a_quota_of_one_goes_to_the_first_claimant() -> None:
    pool = Quota(1)
    assert pool.change(A, 0, 1)
    assert not pool.change(B, 0, 1)
    assert pool.change(A, 1, 0)
    assert pool.change(B, 0, 1)


def test_one_taker_may_grow_into_all_that_is_left() -> None:
    pool = Quota(16)
    assert pool.change(A, 0, 8)
    assert pool.change(A, 8, 16)
    assert not pool.change(A, 16, 17)
    assert pool.used == 16


def test_the_first_claimant_takes_all_that_is_left_and_no_more() -> None:
    pool = Quota(4)
    assert all(pool.change(ROOT, 0, 1) for _ in range(4))
    assert not pool.change(ROOT, 0, 1)
    assert pool.taken(ROOT) == "4 of 4 are taken, 4 of them by root"


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 20))),
)
def test_the_sum_is_that_of_all_claimants_and_never_over_the_limit(
    limit: int, wishes: list[tuple[str, int, int]]
) -> None:
    pool = Quota(limit)
    held: dict[tuple[str, int], int] = {}
    for claimant, which, wanted in wishes:
        before = held.get((claimant, which), 0)
        others = sum(n for (who, i), n in held.items() if who == claimant and i != which)
        free = limit - sum(held.values()) - (wanted - before)
        taken = pool.change(Claimant(claimant), before, wanted)
        assert taken == (wanted <= before or others <= free)
        if taken:
            held[claimant, which] = wanted
        assert pool.used == sum(held.values()) <= limit
