"""The table of answers: a retry gets its first answer, or "unknown", never a guess."""

from __future__ import annotations

import pytest
from tests.unit.core.builders import E1

from pubsubd_broker.core.streams.publishers import PublishAnswer, Publishers, TurnAway
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Receipt, Rejected

ID = b"i" * 16


def receipt(sequence: int) -> Receipt:
    return Receipt(sequence, E1, 100 + sequence)


def code(outcome: PublishAnswer | None) -> str | None:
    assert outcome is None or isinstance(outcome, Rejected)
    return outcome.code if outcome is not None else None


def test_a_new_batch_has_no_answer_yet() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    assert publisher.earlier_answer(1, retry=False) is None
    assert publisher.earlier_answer(0, retry=True) is None


def test_a_retry_gets_its_first_answer() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    publisher.remember(1, receipt(1))
    publisher.remember(2, receipt(2))
    assert publisher.earlier_answer(1, retry=True) == receipt(1)
    assert publisher.earlier_answer(1, retry=True) == receipt(1)


@pytest.mark.parametrize("sequence", [0, 1, 2, 6, 7])
def test_a_new_batch_under_a_sequence_that_is_answered_is_a_violation(sequence: int) -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    for answered in (1, 2, 3, 4, 7):
        publisher.remember(answered, receipt(answered))
    with pytest.raises(ProtocolError, match=f"batch {sequence} is not marked as a retry") as raised:
        publisher.earlier_answer(sequence, retry=False)
    assert raised.value.kind == "sequence"
    assert publisher.earlier_answer(8, retry=False) is None


@pytest.mark.parametrize("first_to_greet", [0, 1])
def test_the_later_opened_connection_under_one_id_stays(
    first_to_greet: int,
) -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    ended: list[tuple[int, str]] = []
    refusals: list[TurnAway] = [
        lambda code, detail: ended.append((0, code)),
        lambda code, detail: ended.append((1, code)),
    ]
    for opened in (first_to_greet, 1 - first_to_greet):
        publisher.take_over(opened, refusals[opened])
    assert ended == [(0, "replaced")]
    publisher.let_go(refusals[0])
    publisher.take_over(2, lambda code, detail: None)
    assert ended == [(0, "replaced"), (1, "replaced")]


def test_a_connection_that_is_gone_is_not_replaced() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    ended: list[str] = []
    refuse: TurnAway = lambda code, detail: ended.append(code)  # noqa: E731
    publisher.take_over(1, refuse)
    publisher.let_go(refuse)
    publisher.take_over(2, lambda code, detail: None)
    assert ended == []


def test_a_refusal_is_remembered_like_a_receipt() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    refusal = Rejected(1, "too_large", "a message is 9 bytes", 9, 8)
    publisher.remember(1, refusal)
    assert publisher.earlier_answer(1, retry=True) is refusal


def test_only_a_batch_older_than_the_window_is_unknown() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    for sequence in range(1, 6):
        publisher.remember(sequence, receipt(sequence))
    assert [code(publisher.earlier_answer(s, retry=True)) for s in (1, 2)] == ["unknown"] * 2
    assert [publisher.earlier_answer(s, retry=True) for s in (3, 4, 5)] == [
        receipt(s) for s in (3, 4, 5)
    ]
    assert publisher.earlier_answer(6, retry=False) is None


def test_the_retry_of_a_number_left_out_is_unknown() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    publisher.remember(7, receipt(7))
    assert code(publisher.earlier_answer(6, retry=True)) == "unknown"


def test_the_record_of_a_publisher_survives_its_connection() -> None:
    table = Publishers(10, 3)
    table.connect(ID, same_life=False).remember(1, receipt(1))
    table.disconnect(ID)
    assert table.connect(ID, same_life=True).earlier_answer(1, retry=True) == receipt(1)


def test_two_connections_of_one_publisher_share_one_record() -> None:
    table = Publishers(10, 3)
    old = table.connect(ID, same_life=False)
    new = table.connect(ID, same_life=True)
    old.remember(1, receipt(1))
    assert new.earlier_answer(1, retry=True) == receipt(1)
    table.disconnect(ID)
    new.remember(2, receipt(2))
    table.disconnect(ID)
    assert len(table) == 1
    assert table.connect(ID, same_life=True).earlier_answer(2, retry=True) == receipt(2)


def test_a_forgotten_publishers_retry_is_unknown_its_new_batch_new() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=True)
    assert code(publisher.earlier_answer(5, retry=True)) == "unknown"
    assert publisher.earlier_answer(5, retry=False) is None


def test_a_retry_to_a_restarted_broker_is_judged_anew() -> None:
    publisher = Publishers(10, 3).connect(ID, same_life=False)
    assert publisher.earlier_answer(5, retry=True) is None


@pytest.mark.parametrize("partial", [False, True])
def test_a_retry_without_a_record_is_unknown_after_a_partial_recovery(partial: bool) -> None:
    table = Publishers(10, 3)
    table.restore({}, [], partial=partial)
    retried = table.connect(ID, same_life=False, other_life=True).earlier_answer(5, retry=True)
    assert code(retried) == "unknown" if partial else retried is None
    newcomer = table.connect(bytes(16), same_life=False)
    assert newcomer.earlier_answer(5, retry=True) is None


def test_the_least_recently_used_away_publisher_is_dropped() -> None:
    table = Publishers(2, 3)
    a, b, c = (bytes([n]) * 16 for n in range(3))
    for publisher in (a, b):
        table.connect(publisher, same_life=False).remember(1, receipt(1))
        table.disconnect(publisher)
    table.connect(a, same_life=True)
    table.disconnect(a)
    table.connect(c, same_life=False).remember(1, receipt(1))
    table.disconnect(c)
    assert len(table) == 2
    assert table.connect(a, same_life=True).earlier_answer(1, retry=True) == receipt(1)
    assert table.connect(c, same_life=True).earlier_answer(1, retry=True) == receipt(1)
    assert code(table.connect(b, same_life=True).earlier_answer(1, retry=True)) == "unknown"


def test_those_connected_are_never_dropped() -> None:
    table = Publishers(1, 3)
    connected = table.connect(ID, same_life=False)
    connected.remember(1, receipt(1))
    for n in range(100):
        away = n.to_bytes(16)
        table.connect(away, same_life=False)
        table.disconnect(away)
    assert len(table) == 2
    assert table.connect(ID, same_life=True) is connected
