"""The cursor registry agrees, at every step, with the history of what each consumer did."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.core.builders import at, view
from tests.unit.examples import examples

from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_protocol.attach import Expired, Remembered, resolve
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS
from pubsubd_protocol.positions import Position

TTL = 100

CONSUMERS = st.sampled_from(["b", "c", "d", "e"])
WHICH = st.integers(0, 3)
MOVES = st.dictionaries(
    st.sampled_from(["projector", "audit", "index"]),
    st.none() | st.builds(at, st.integers(0, 40)),
    max_size=3,
)


@dataclass
class _History:
    """All that a consumer did since it was registered. What is registered of it is read off this list."""

    acknowledged: list[int] = field(default_factory=list)
    moves: list[tuple[str, Position | None]] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)
    """The times at which the consumer acknowledged, came and left."""

    @property
    def cursor(self) -> int:
        return max(self.acknowledged)

    @property
    def named(self) -> dict[str, Position]:
        latest = dict(self.moves)
        return {name: cursor for name, cursor in latest.items() if cursor is not None}


class RegistryMachine(RuleBasedStateMachine):
    """A producer whose stream grows and loses its oldest messages, and four consumers of it."""

    registry: CursorRegistry
    limit: int

    def __init__(self) -> None:
        super().__init__()
        self.now = self.oldest = self.next = self.removed = self.given_up = 0
        self.linked: set[str] = set()
        self.histories: dict[str, _History] = {}

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.registry = CursorRegistry(limit)

    def _forgotten(self, consumer: str) -> None:
        del self.histories[consumer]
        self.removed += 1

    @rule(span=st.integers(0, TTL // 4))
    def time_passes(self, span: int) -> None:
        self.now += span

    @rule(published=st.integers(0, 10), evicted=st.integers(0, 12))
    def the_stream_moves(self, published: int, evicted: int) -> None:
        self.next += published
        self.oldest = min(self.next, self.oldest + evicted)

    @rule(consumer=CONSUMERS, behind=st.integers(0, 8), moves=MOVES)
    def a_consumer_comes(
        self, consumer: str, behind: int, moves: dict[str, Position | None]
    ) -> None:
        """A consumer attaches, if it is admitted. A new one acknowledges at once where it attached."""
        if not self._finds_room(consumer):
            return
        self.linked.add(consumer)
        self.registry.connected(consumer, True, self.now)
        if consumer in self.histories:
            self.histories[consumer].heard.append(self.now)
        else:
            assert consumer not in self.registry, "a link alone registers no consumer"
            self._acknowledge(consumer, behind, moves)

    @precondition(lambda self: self.linked)
    @rule(which=WHICH, behind=st.integers(0, 8), moves=MOVES)
    def a_linked_consumer_acknowledges(
        self, which: int, behind: int, moves: dict[str, Position | None]
    ) -> None:
        """Also lower than before: an attach at a lower position reads again. Also after it was dropped."""
        consumer = sorted(self.linked)[which % len(self.linked)]
        # The node asks for room before. `acknowledge` itself refuses no consumer.
        if self._finds_room(consumer):
            self._acknowledge(consumer, behind, moves)

    def _finds_room(self, consumer: str) -> bool:
        """The consumer is known, or finds room, or another one is given up: the histories tell which."""
        crowd = self.linked, self.oldest, TTL, self.now
        known = self.histories.keys() | self.linked
        room = consumer in known or len(known) < self.limit
        away = [
            (h.cursor >= self.oldest, bool(h.named), h.heard[-1], name)
            for name, h in self.histories.items()
            if name not in self.linked and (not h.named or self.now - h.heard[-1] > TTL)
        ]
        assert self.registry.admits(consumer, *crowd) == (room or bool(away))
        given_up = self.registry.make_room(consumer, *crowd)
        assert given_up == (None if room or not away else min(away)[-1])
        if given_up is not None:
            self._forgotten(given_up)
            self.given_up += 1
        return room or given_up is not None

    def _acknowledge(self, consumer: str, behind: int, moves: dict[str, Position | None]) -> None:
        offset = max(0, self.next - behind)
        self.registry.acknowledge(consumer, at(offset), moves, self.now)
        history = self.histories.setdefault(consumer, _History())
        history.acknowledged.append(offset)
        history.moves += moves.items()
        history.heard.append(self.now)

    @rule(consumer=CONSUMERS, spare=st.integers(-1, 1))
    def a_linked_consumer_acknowledges_for_as_many_names_as_allowed_or_one_more(
        self, consumer: str, spare: int
    ) -> None:
        if consumer not in self.linked or consumer not in self.histories:
            return
        taken = len(self.histories[consumer].named)
        moves: dict[str, Position | None] = {
            f"worker-{n}": at(n) for n in range(MAX_NAMED_SESSIONS - taken - spare)
        }
        if spare >= 0:
            self._acknowledge(consumer, 0, moves)
            self._acknowledge(consumer, 0, dict.fromkeys(moves))
        else:
            with pytest.raises(ProtocolError) as refused:
                self.registry.acknowledge(consumer, at(self.next), moves, self.now)
            assert refused.value.kind == "named_sessions"

    @precondition(lambda self: self.linked)
    @rule(which=WHICH)
    def a_linked_consumer_leaves(self, which: int) -> None:
        consumer = sorted(self.linked)[which % len(self.linked)]
        self.linked.discard(consumer)
        self.registry.connected(consumer, False, self.now)
        if consumer in self.histories:
            self.histories[consumer].heard.append(self.now)

    @rule(consumer=CONSUMERS)
    def the_operator_drops(self, consumer: str) -> None:
        known = consumer in self.histories
        assert self.registry.drop(consumer) == known
        if known:
            self._forgotten(consumer)

    @rule()
    def expire_now(self) -> None:
        self._expire()

    @precondition(lambda self: self.histories)
    @rule(which=WHICH)
    def expire_around_the_moment_at_which_the_time_of_one_is_over(self, which: int) -> None:
        """That moment is looked for: by chance it would hardly be met."""
        consumer = sorted(self.histories)[which % len(self.histories)]
        over = self.histories[consumer].heard[-1] + TTL
        for moment in (over - 1, over, over + 1):
            self.now = max(self.now, moment)
            self._expire()

    def _expire(self) -> None:
        """A cursor that is given up: away for longer than the time-to-live, and expired anyway."""
        now = view(self.oldest, self.next)
        due = {
            consumer
            for consumer, history in self.histories.items()
            if consumer not in self.linked
            and self.now - history.heard[-1] > TTL
            and isinstance(resolve(Remembered(waiting=False), now, at(history.cursor)), Expired)
        }

        gone = self.registry.expire(self.oldest, TTL, self.now)

        assert len(gone) == len(set(gone)), "each is named once"
        assert set(gone) == due
        for consumer in gone:
            kept = resolve(Remembered(waiting=True), now, at(self.histories[consumer].cursor))
            dropped = resolve(Remembered(waiting=True), now, None)
            assert isinstance(kept, Expired)
            assert isinstance(dropped, Expired), "dropping hid a gap"
            assert dropped.next == kept.next
            self._forgotten(consumer)

    @invariant()
    def exactly_those_are_registered_who_acknowledged_and_were_not_dropped(self) -> None:
        if hasattr(self, "registry"):
            assert [name for name, _ in self.registry.items()] == sorted(self.histories)
            for name in ("b", "c", "d", "e"):
                assert (name in self.registry) == (name in self.histories)
                assert (self.registry.get(name) is not None) == (name in self.histories)

    @invariant()
    def as_many_as_the_limit_at_the_most(self) -> None:
        if hasattr(self, "registry"):
            assert len(self.registry) == len(self.histories) <= self.limit

    @invariant()
    def what_is_registered_follows_from_the_history(self) -> None:
        if hasattr(self, "registry"):
            for name, registered in self.registry.items():
                history = self.histories[name]
                assert registered.cursor == at(history.cursor)
                assert registered.named == history.named
                assert len(registered.named) <= MAX_NAMED_SESSIONS
                assert registered.connected == (name in self.linked)
                assert registered.seen_ns == history.heard[-1]

    @invariant()
    def every_removal_is_counted_once(self) -> None:
        if hasattr(self, "registry"):
            assert self.registry.removed == self.removed
            assert self.registry.given_up == self.given_up


RegistryMachine.TestCase.settings = settings(
    max_examples=examples(120), stateful_step_count=40, deadline=None
)
test_the_registry_agrees_with_the_history_of_its_consumers = RegistryMachine.TestCase
