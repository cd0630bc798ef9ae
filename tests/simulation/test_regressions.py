"""Plans in which the simulator once found a bug, shrunk and kept.

A plan draws only how bytes arrive. It meets the same faults for ever, though a fault may hit a byte further on now.
So the rule behind each bug has a unit test as well.
"""

from __future__ import annotations

import pytest
from tests.simulation.plan import Plan, Step
from tests.simulation.run import run_plan

PLANS = {
    # Its broker and its application crashed. The application had not read the notice that a stream was unseen. All
    # messages behind the notice counted as acknowledged: the next life began there, without a notice.
    "an unread notice is told again": Plan(
        seed=27,
        nodes=3,
        ring_messages=1000,
        ring_bytes=3000,
        replica_messages=1,
        replica_bytes=1200,
        quantum_bytes=2000,
        capacity_bytes=100000,
        slowest_ms=5,
        tick_jitter_ms=20,
        batch_messages=4,
        cursor_ttl_ms=86_400_000,
        steps=(
            Step(0, "start", 0),
            Step(0, "start", 1),
            Step(0, "start", 2),
            Step(0, "publisher", 18774),
            Step(0, "publisher", 9990),
            Step(0, "publisher", 12404),
            Step(0, "subscribe", 24482),
            Step(0, "subscribe", 96289),
            Step(39, "crash_both", 65560),
            Step(48, "publish", 27017),
            Step(97, "crash_both", 73903),
            Step(339, "publish", 3803),
            Step(433, "publish", 50005),
            Step(465, "publish", 18870),
            Step(484, "publish", 62629),
            Step(514, "publish", 47847),
            Step(521, "publish", 54916),
            Step(552, "publish", 53139),
            Step(647, "publish", 82059),
            Step(672, "crash", 50729),
            Step(708, "publish", 30962),
            Step(876, "crash", 31488),
            Step(932, "crash_both", 24117),
            Step(942, "publish", 74909),
        ),
    ),
    # The broker was restarted and had not met a producer again. The answer to a changed filter left out the session's
    # place in that stream. So messages that it had received under the old filter looked like phantoms.
    "a changed filter names streams that are not met again": Plan(
        seed=1531,
        nodes=7,
        ring_messages=100,
        ring_bytes=1000000,
        replica_messages=3,
        replica_bytes=10000,
        quantum_bytes=1,
        capacity_bytes=1000,
        slowest_ms=5,
        tick_jitter_ms=0,
        batch_messages=12,
        cursor_ttl_ms=86_400_000,
        steps=(
            Step(0, "start", 0),
            Step(0, "start", 1),
            Step(0, "start", 2),
            Step(0, "start", 3),
            Step(0, "start", 4),
            Step(0, "start", 5),
            Step(500, "publisher", 78882),
            Step(500, "publisher", 93063),
            Step(500, "publisher", 48714),
            Step(500, "subscribe", 31782),
            Step(500, "subscribe", 25302),
            Step(500, "subscribe", 33041),
            Step(500, "subscribe", 3110),
            Step(709, "publish", 8000),
            Step(730, "publish", 11259),
            Step(1077, "start", 6),
            Step(1164, "subscribe", 47673),
            Step(1592, "filter", 24831),
            Step(2154, "publish", 78517),
            Step(2193, "publish", 27918),
            Step(2208, "subscribe", 49340),
            Step(2218, "publish", 89116),
            Step(2263, "crash_both", 18451),
            Step(2553, "crash_both", 68716),
            Step(3019, "filter", 23232),
        ),
    ),
    # A restarted broker had its session from one producer, and told another that the session had lost messages there.
    # The application was still to come, and knew its place. Then both crashed, and the producer believed it.
    "a loss that no session was told is not remembered": Plan(
        seed=9843,
        nodes=5,
        ring_messages=10,
        ring_bytes=1000000,
        replica_messages=10,
        replica_bytes=1000000,
        quantum_bytes=1,
        capacity_bytes=1000,
        slowest_ms=0,
        tick_jitter_ms=200,
        batch_messages=4,
        cursor_ttl_ms=86_400_000,
        steps=(
            Step(0, "start", 2),
            Step(0, "publisher", 3891),
            Step(0, "publisher", 95830),
            Step(0, "publisher", 25537),
            Step(0, "subscribe", 51822),
            Step(0, "subscribe", 99681),
            Step(0, "subscribe", 53231),
            Step(0, "subscribe", 53450),
            Step(136, "app_pause", 26333),
            Step(905, "publish", 71766),
            Step(1012, "publish", 87562),
            Step(1055, "publish", 74109),
            Step(1095, "publish", 97508),
            Step(1244, "start", 4),
            Step(1284, "start", 0),
            Step(1374, "publish", 76826),
            Step(1393, "publish", 62017),
            Step(1430, "crash_both", 89758),
            Step(1876, "crash_both", 40096),
            Step(1888, "app_restart", 77412),
        ),
    ),
    # A broker learned that its session had lived before while the application was between two connections. The
    # application came back with its place in the new history, and was never told that there had been another.
    "a loss that is found between two connections": Plan(
        seed=16948,
        nodes=4,
        ring_messages=1000,
        ring_bytes=1000000,
        replica_messages=1000,
        replica_bytes=1200,
        quantum_bytes=300,
        capacity_bytes=50,
        slowest_ms=30,
        tick_jitter_ms=0,
        batch_messages=4,
        cursor_ttl_ms=86_400_000,
        steps=(
            Step(0, "start", 0),
            Step(0, "start", 1),
            Step(0, "start", 3),
            Step(0, "publisher", 64960),
            Step(0, "subscribe", 26561),
            Step(0, "subscribe", 79245),
            Step(69, "crash_both", 87892),
            Step(3948, "crash_both", 25748),
            Step(4505, "crash_both", 83360),
            Step(4816, "client_cut", 27163),
            Step(6000, "publish", 11),
            Step(6100, "publish", 12),
            Step(6200, "publish", 13),
        ),
        pace_ms=250,
    ),
    # A session resumed with messages unread that its producer held, and behind them the notice of a lost end. It said
    # that it had not taken in the notice, and did not say its place. Its next life was told of a loss at once, and
    # not given those messages.
    "a lost end that waits behind messages is told behind them again": Plan(
        seed=17,
        nodes=4,
        ring_messages=100,
        ring_bytes=1000000,
        replica_messages=10,
        replica_bytes=1000000,
        quantum_bytes=300,
        capacity_bytes=100000,
        slowest_ms=30,
        tick_jitter_ms=0,
        batch_messages=4,
        cursor_ttl_ms=86400000,
        steps=(
            Step(0, "start", 0),
            Step(0, "start", 1),
            Step(0, "start", 2),
            Step(0, "start", 3),
            Step(500, "publisher", 1040325),
            Step(500, "publisher", 1077168),
            Step(500, "publisher", 1036072),
            Step(500, "subscribe", 1017397),
            Step(500, "subscribe", 1021167),
            Step(600, "publish", 1009762),
            Step(680, "publish", 1023595),
            Step(896, "lose_witness", 1094719),
            Step(960, "publish", 1044741),
            Step(1000, "publish", 1049838),
            Step(1040, "publish", 1011983),
            Step(1080, "publish", 1021663),
            Step(1240, "publish", 1065862),
            Step(2360, "publish", 1089169),
            Step(2640, "publish", 1099800),
            Step(2720, "publish", 1032605),
            Step(2920, "publish", 1013621),
            Step(3111, "power_cut", 1005056),
            Step(4387, "life_between", 1077800),
            Step(6345, "app_restart", 1016654),
        ),
        pace_ms=0,
        fsync="interval",
        segment_bytes=20000,
        slowest_disk_ms=0,
        recovers_from_peers=True,
        secret=False,
        fetched_bytes=1000000,
    ),
}


# A producer came back with all that it had accepted: no message. A consumer stood there under the earlier epoch, and
# lied under that. A producer cannot judge what was read beyond the end of an earlier epoch.
LIED_UNDER_AN_EARLIER_EPOCH = Plan(
    seed=1469,
    nodes=7,
    ring_messages=5,
    ring_bytes=20000,
    replica_messages=10,
    replica_bytes=10000,
    quantum_bytes=1,
    capacity_bytes=1000,
    slowest_ms=1,
    tick_jitter_ms=0,
    batch_messages=4,
    cursor_ttl_ms=86400000,
    steps=(
        Step(0, "start", 1),
        Step(0, "start", 2),
        Step(0, "start", 5),
        Step(0, "start", 6),
        Step(8, "lie", 107150),
        Step(81, "life_between", 872777),
        Step(161, "lose_witness", 910818),
        Step(165, "lie", 153166),
        Step(167, "lie", 151651),
        Step(191, "lie", 155373),
        Step(235, "lie", 133147),
        Step(262, "lie", 148324),
        Step(283, "lie", 171492),
        Step(303, "lie", 179619),
        Step(313, "lie", 173009),
        Step(368, "lie", 183361),
    ),
    pace_ms=0,
    fsync="always",
    segment_bytes=300,
    slowest_disk_ms=5,
    recovers_from_peers=True,
    secret=False,
    fetched_bytes=2000,
)


@pytest.mark.parametrize("name", PLANS)
def test_a_shrunk_plan_passes(name: str) -> None:
    counts = run_plan(PLANS[name])
    assert counts["accepted"] > 0
    assert counts["delivered"] > 0


def test_a_false_acknowledgement_is_noticed_under_a_new_epoch() -> None:
    counts = run_plan(LIED_UNDER_AN_EARLIER_EPOCH)
    assert counts["noticed: consumer: its session has what was not sent"] == 1
