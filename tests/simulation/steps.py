"""What can happen in a run: one function for each kind of step, with chance of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.brokers import SimBroker
from tests.simulation.clockwork import MS
from tests.simulation.liars.telling import tell_one
from tests.simulation.publisher import Publisher
from tests.simulation.subscriber import Subscriber
from tests.simulation.wires import Pipe, Wire

if TYPE_CHECKING:
    from tests.simulation.plan import Step
    from tests.simulation.world import World

TOPICS = ("a", "a.b", "a.c", "b.c", "x.y.z", "room:1")
PATTERNS = (
    (">",),
    ("a",),
    ("a.*",),
    ("a.>", "a.b"),
    ("*.c", "x.>"),
    ("room:1", "b.*"),
    ("never.*",),
)

MOST_SUBSCRIBERS = 8
MOST_PUBLISHERS = 8

LIVES = 40

Some = TypeVar("Some")


def perform(world: World, step: Step) -> bool:
    """Does it, if there is something to do it to."""
    chance = random.Random(step.draw)
    done = _STEPS[step.what](world, chance, step.draw)
    if done:
        world.counts[step.what] += 1
    return done


def _start(world: World, chance: random.Random, draw: int) -> bool:
    world.start(world.brokers[f"n{draw}"])
    return True


def _publisher(world: World, chance: random.Random, draw: int) -> bool:
    broker = chance.choice(list(world.brokers.values()))
    world.publishers.append(Publisher(world, f"p{draw}", broker))
    return True


def _copy(world: World, chance: random.Random, draw: int) -> bool:
    """A publisher's process is copied, as by `fork` or a cloned machine, and the copy publishes too."""
    original = _pick(chance, world.publishers)
    if original is None or len(world.publishers) >= MOST_PUBLISHERS:
        return False
    world.say(f"{original.name} is copied")
    copy = Publisher(world, f"p{draw}", original.broker, copy_of=original)
    world.publishers.append(copy)

    def publish() -> None:
        copy.publish(chance.choice(TOPICS), None, 1)

    for wait_ms in (50, 100, 200):
        world.clockwork.after(wait_ms * MS, publish)
    return True


def _subscribe(world: World, chance: random.Random, draw: int) -> bool:
    if len(world.subscribers) >= MOST_SUBSCRIBERS:
        return False
    _subscribe_on(world, chance, chance.choice(list(world.brokers.values())), draw)
    return True


def _subscribe_on(
    world: World,
    chance: random.Random,
    broker: SimBroker,
    draw: int,
    patterns: tuple[tuple[str, ...], ...] = PATTERNS,
    starts: tuple[str, ...] = ("latest", "latest", "earliest"),
) -> None:
    mute = [p for p in world.publishers if chance.random() < 0.2]
    keeps = chance.choice(["nothing", "position", "name"])
    start = chance.choice(starts)
    subscriber = Subscriber(
        world,
        f"s{draw}-{keeps}-{start}",
        broker,
        chance.choice(patterns),
        keeps=keeps,
        start=start,
        mute=mute[0] if mute else None,
        pace_ms=chance.choice([1, 20, 500]),
        appetite=chance.choice([1, 3, 50]),
    )
    world.say(f"{subscriber.name} subscribes on {broker.name}")
    world.subscribers.append(subscriber)


def _publish(world: World, chance: random.Random, draw: int) -> bool:
    if not world.publishers:
        return False
    publisher = chance.choice(world.publishers)
    to = chance.choice(list(world.brokers)) if chance.random() < 0.2 else None
    messages = chance.randint(1, world.plan.batch_messages)
    return publisher.publish(chance.choice(TOPICS), to, messages)


def _burst(world: World, chance: random.Random, draw: int) -> bool:
    published = [_publish(world, chance, draw) for _ in range(chance.randint(5, 40))]
    return any(published)


def _cut(world: World, chance: random.Random, draw: int) -> bool:
    return _cut_link(world, chance, silent=False)


def _silent_cut(world: World, chance: random.Random, draw: int) -> bool:
    return _cut_link(world, chance, silent=True)


def _cut_link(world: World, chance: random.Random, *, silent: bool) -> bool:
    wire = _pick(chance, world.links())
    if wire is None:
        return False
    world.say(f"{'silent ' if silent else ''}cut {wire.ends}")
    wire.cut(silent=silent)
    return True


def _cut_in_time(world: World, chance: random.Random, draw: int) -> bool:
    """Cuts exactly behind the last byte under way (an answer, an acknowledgement), or a byte beside it."""
    wires = [w for w in world.wires if not w.broken]
    pipes: list[tuple[Pipe, Wire]] = [(p, w) for w in wires for p in (w.out, w.back)]
    picked = _pick(chance, [pw for pw in pipes if not pw[0].empty] or pipes)
    if picked is None:
        return False
    pipe, wire = picked
    pipe.burn(chance.choice([-1, 0, 0, 1]))
    world.say(f"cut {wire.ends} behind what is under way")
    if wire.local:
        world.disturbed(world.brokers[wire.ends[0]])
    return True


def _hold(world: World, chance: random.Random, draw: int) -> bool:
    wire = _pick(chance, world.links())
    if wire is None:
        return False
    pipe = chance.choice([wire.out, wire.back])
    pipe.held = True
    world.say(f"hold {wire.ends}")

    def release() -> None:
        pipe.held = False
        pipe.plan()

    world.clockwork.after(chance.randint(1, 3000) * MS, release)
    return True


def _partition(world: World, chance: random.Random, draw: int) -> bool:
    if len(world.brokers) < 2:
        return False
    near, far = chance.sample(list(world.brokers), 2)
    world.say(f"partition {near} -> {far}")
    _sever(world, (near, far))
    return True


def _heal(world: World, chance: random.Random, draw: int) -> bool:
    if not world.cuts:
        return False
    healed = chance.choice(sorted(world.cuts))
    world.cuts.discard(healed)
    world.say(f"heal {healed}")
    return True


def _outage(world: World, chance: random.Random, draw: int) -> bool:
    """A broker, or its link to one peer, is away for longer than the peer time-out."""
    broker = _running(world, chance)
    if broker is None or len(world.brokers) < 2:
        return False
    wait_ns = chance.randint(2000, 4000) * MS
    if chance.random() < 0.5:
        world.say(f"{broker.name} crashes for long")
        _end(world, broker)
        world.clockwork.after(wait_ns, lambda: world.start(broker))
        return True
    pair = broker.name, chance.choice([name for name in world.brokers if name != broker.name])
    world.say(f"partition {pair} for long")
    _sever(world, pair)
    world.clockwork.after(wait_ns, lambda: world.cuts.discard(pair))
    return True


def _sever(world: World, pair: tuple[str, str]) -> None:
    """The first broker's link to the second is cut, and cannot be dialled again."""
    world.cuts.add(pair)
    for wire in world.wires:
        if wire.ends == pair:
            wire.cut(silent=False)


def _crash(world: World, chance: random.Random, draw: int) -> bool:
    broker = _running(world, chance)
    if broker is None:
        return False
    world.say(f"{broker.name} crashes")
    _end(world, broker)
    world.clockwork.after(chance.randint(1, 2000) * MS, lambda: world.start(broker))
    return True


def _crash_both(world: World, chance: random.Random, draw: int) -> bool:
    """A broker crashes, and one of its applications with it, or as soon as it has resumed with the next life."""
    running = [s for s in world.subscribers if s.broker.node is not None]
    if chance.random() < 0.7:
        # Else so much is down at once that hardly any producer is left that remembers a name.
        running = [s for s in running if s.remembered()]
    doomed = _pick(chance, running)
    if doomed is None or not doomed.doom():
        return False
    _end(world, doomed.broker)
    both = doomed.die_now() if chance.random() < 0.5 else False
    world.say(f"{doomed.broker.name} crashes, {doomed.name} {'too' if both else 'will'}")
    world.clockwork.after(chance.randint(1, 500) * MS, lambda: world.start(doomed.broker))
    return True


def _crash_at_contact(world: World, chance: random.Random, draw: int) -> bool:
    """A broker crashes, and its next life does as soon as it has met a producer and acknowledged."""
    broker = _running(world, chance)
    if broker is None:
        return False
    world.say(f"{broker.name} crashes, and will again at its next contact")
    _end(world, broker)
    soon_ms, later_ms = chance.choice([0, 5, 20]), chance.randint(1, 500)

    def again(life: int) -> None:
        if broker.life == life and broker.node is not None:
            world.say(f"{broker.name} crashes behind a contact")
            _end(world, broker)
            world.clockwork.after(later_ms * MS, lambda: world.start(broker))

    def contact() -> None:
        life = broker.life
        world.clockwork.after(soon_ms * MS, lambda: again(life))

    broker.doomed = contact
    world.clockwork.after(chance.randint(1, 500) * MS, lambda: world.start(broker))
    return True


def _crash_untold(world: World, chance: random.Random, draw: int) -> bool:
    """A broker meets a producer, acknowledges and dies, and a session that waited for that producer is not told.

    The producer remembers more of its broker than the session has seen.
    """
    nodes = {publisher.broker for publisher in world.publishers}
    broker = _pick(chance, [b for b in world.brokers.values() if nodes - {b}])
    if broker is None:
        return False
    others = [p for p in world.publishers if p.broker is not broker]
    world.say(f"{broker.name} crashes, and will again before new sessions hear of a contact")
    _end(world, broker)
    for publisher in others:
        world.start(publisher.broker)
    offline = {(broker.name, peer) for peer in world.brokers}
    world.cuts |= offline
    boots_ms, online_ms, later_ms = (chance.randint(1, most) for most in (20, 100, 20))
    awake_ms = chance.choice([1, 200, 600])

    def boot() -> None:
        world.start(broker)
        # However many there are: most others have met all producers.
        for number in range(2):
            _subscribe_on(world, chance, broker, draw + number, ((">",),), ("latest",))
        world.clockwork.after(online_ms * MS, meet)

    def meet() -> None:
        world.cuts.difference_update(offline)
        waiting = [s for s in world.subscribers if s.broker is broker and s.pause()]
        ends = {n: b.node.stream.next for n, b in world.brokers.items() if b.node is not None}
        for publisher in others:
            publisher.publish(chance.choice(TOPICS), None, 1)
        crash_if_acknowledged(broker.life, waiting, ends, 60)

    def crash_if_acknowledged(
        life: int, waiting: list[Subscriber], ends: dict[str, int], looks: int
    ) -> None:
        if broker.life != life or broker.node is None or not looks:
            go_on(waiting)
        elif any(subscriber.lags_behind_its_broker(ends) for subscriber in waiting):
            world.say(f"{broker.name} crashes behind an acknowledgement")
            _end(world, broker)
            world.clockwork.after(later_ms * MS, lambda: world.start(broker))
            world.clockwork.after(awake_ms * MS, lambda: go_on(waiting))
        else:
            world.clockwork.after(
                10 * MS, lambda: crash_if_acknowledged(life, waiting, ends, looks - 1)
            )

    def go_on(waiting: list[Subscriber]) -> None:
        for subscriber in waiting:
            subscriber.go_on()

    world.clockwork.after(boots_ms * MS, boot)
    return True


def _forget_together(world: World, chance: random.Random, draw: int) -> bool:
    """The broker of a named subscription, and a producer that it has read, crash together, and so does the application.

    Only third nodes know the name then, and the producer may recover its stream from those.
    """
    named = [s for s in world.subscribers if s.keeps == "name" and s.undisturbed]
    doomed = _pick(chance, (s for s in named if s.remembered_elsewhere()))
    if doomed is None or world.plan.fsync is not None or len(world.brokers) < 3:
        return False
    known = [world.brokers[name] for name in doomed.remembered_elsewhere()]
    producer = _pick(chance, (b for b in known if b.node is not None))
    if producer is None:
        return False
    world.say(f"{producer.name} and {doomed.broker.name} crash, {doomed.name} too")
    # The producer first: what is remembered is asked as the subscription's broker goes.
    for broker in (producer, doomed.broker):
        _end(world, broker)
        world.clockwork.after(chance.randint(1, 500) * MS, partial(world.start, broker))
    doomed.restart()
    return True


def _restart(world: World, chance: random.Random, draw: int) -> bool:
    """The broker comes back with its ring, or with less of it than it had accepted."""
    broker = _running(world, chance)
    if broker is None:
        return False
    if broker.journal is not None:
        world.say(f"{broker.name} stops")
        _lose(world, broker)
        broker.stop()
    else:
        less = chance.choice([0, 0, 1, 3, 1000])
        proven = world.chance("end", broker.name, broker.life).random() < 0.7
        broker.remember(less, proven=proven)
        world.say(
            f"{broker.name} restarts with its ring, up to {broker.memory and broker.memory.end}"
        )
        _end(world, broker)
    world.clockwork.after(chance.randint(1, 2000) * MS, lambda: world.start(broker))
    return True


def _forty_lives(world: World, chance: random.Random, draw: int) -> bool:
    """A broker is restarted again and again, idle or barely used, by all means that lose nothing."""
    broker = _running(world, chance)
    if broker is None:
        return False
    kills = world.plan.fsync == "always" and chance.random() < 0.7
    used = chance.choice([0.0, 0.0, 0.1])
    slowest_ms = chance.choice([5, 30, 60])
    left = LIVES

    def live_again() -> None:
        nonlocal left
        if not left:
            world.restless -= 1
            return
        if broker.node is not None:
            left -= 1
            world.counts["one of many lives"] += 1
            world.say(f"{broker.name} ends, {left} lives are left")
            _lose(world, broker)
            if broker.journal is None:
                broker.remember(0)
            if kills or broker.journal is None:
                broker.crash(machine=False)
            else:
                broker.stop(rots=False)
            world.clockwork.after(MS, lambda: world.start(broker))
            if chance.random() < used:
                _publish(world, chance, draw)
        world.clockwork.after(chance.randint(2, slowest_ms) * MS, live_again)

    world.restless += 1
    live_again()
    return True


def _power_cut(world: World, chance: random.Random, draw: int) -> bool:
    """A machine is off, and on again before its peers have noticed. Its network comes up later than its applications."""
    broker = _running(world, chance)
    if broker is None:
        return False
    world.say(f"{broker.name} loses its power")
    _end(world, broker, silent=True)
    for subscriber in world.subscribers:
        if subscriber.broker is broker:
            subscriber.restart()
    offline = {(broker.name, peer) for peer in world.brokers} - world.cuts
    world.cuts |= offline

    def boot() -> None:
        world.start(broker)
        if len(world.subscribers) < MOST_SUBSCRIBERS:
            _subscribe_on(world, chance, broker, draw)

    boots_ms = chance.randint(1, 300)
    online_ms = boots_ms + chance.choice([0, 20, 200, 1000])
    world.clockwork.after(boots_ms * MS, boot)
    world.clockwork.after(online_ms * MS, lambda: world.cuts.difference_update(offline))
    return True


def _put_back(world: World, chance: random.Random, draw: int) -> bool:
    """An older copy of a journal's folder stands in its place: it was restored from a backup."""
    broker = _pick(chance, (b for b in world.brokers.values() if b.node and b.journal))
    if broker is None:
        return False
    copy = broker.copy()
    world.say(f"the folder of {broker.name} is copied")
    stays_ms, away_ms, stops = (
        chance.randint(1, 1500),
        chance.randint(1, 500),
        chance.random() < 0.3,
    )
    world.restless += 1

    def put_back() -> None:
        world.restless -= 1
        _leave(world, broker, stops=stops)
        broker.put_back(copy)
        world.say(f"the folder of {broker.name} is put back")
        world.clockwork.after(away_ms * MS, lambda: world.start(broker))

    world.clockwork.after(stays_ms * MS, put_back)
    return True


def _life_between(world: World, chance: random.Random, draw: int) -> bool:
    """A broker is started without its journal once, and then with it again."""
    broker = _pick(chance, (b for b in world.brokers.values() if b.node and b.journal))
    if broker is None:
        return False
    away_ms, stays_ms = chance.randint(1, 300), chance.randint(1, 1500)
    _leave(world, broker, stops=chance.random() < 0.3)
    stops, publishes = chance.random() < 0.5, chance.random() < 0.7
    world.restless += 1

    def begin() -> None:
        broker.bare = broker.node is None
        world.say(f"{broker.name} is started without its journal")
        world.start(broker)
        for wait_ms in (stays_ms // 2, stays_ms * 3 // 4) if publishes else ():
            world.clockwork.after(wait_ms * MS, publish)
        world.clockwork.after(stays_ms * MS, end)

    def publish() -> None:
        for publisher in world.publishers:
            if publisher.broker is broker:
                publisher.publish(chance.choice(TOPICS), None, 1)

    def end() -> None:
        world.restless -= 1
        _leave(world, broker, stops=stops)
        world.clockwork.after(away_ms * MS, lambda: world.start(broker))

    world.clockwork.after(away_ms * MS, begin)
    return True


def _lose_witness(world: World, chance: random.Random, draw: int) -> bool:
    """A broker crashes, its machine does not, and what the broker had noted there is gone or spoilt."""
    broker = _running(world, chance)
    if broker is None:
        return False
    _lose(world, broker)
    broker.crash(machine=False)
    world.say(f"{broker.name} crashes, its witnesses are {broker.machine.lose_witness(chance)}")
    world.clockwork.after(chance.randint(1, 500) * MS, lambda: world.start(broker))
    return True


def _lose_unheard(world: World, chance: random.Random, draw: int) -> bool:
    """A producer loses what it accepted while a consumer without memory, which has a new reader, could not reach it."""
    brokers = [broker for broker in world.brokers.values() if broker.node]
    published = {publisher.broker for publisher in world.publishers}
    broker = _pick(
        chance,
        (b for b in brokers if b in published and b.journal and b.journal.keeps_running),
    )
    # One whose readers all know where they stand would ask for that.
    reads = {subscriber.broker for subscriber in world.subscribers}
    other = _pick(chance, (b for b in brokers if b is not broker and b not in reads))
    if broker is None or other is None or len(world.subscribers) >= MOST_SUBSCRIBERS:
        return False
    offline = {(other.name, broker.name)} - world.cuts
    world.cuts |= offline
    # As it is now, `other` has acknowledged nearly all that it holds.
    copy = broker.copy()
    _leave(world, other, stops=False)
    world.start(other)
    _subscribe_on(world, chance, other, draw, ((">",),), ("latest",))
    world.restless += 1

    def publish() -> None:
        for publisher in world.publishers:
            if publisher.broker is broker:
                publisher.publish(chance.choice(TOPICS), None, 2)
        world.clockwork.after(100 * MS, lose)

    def lose() -> None:
        world.restless -= 1
        _leave(world, broker, stops=False)
        broker.put_back(copy)
        world.say(f"the folder of {broker.name} is put back")
        world.start(broker)
        world.cuts.difference_update(offline)

    world.clockwork.after(chance.randint(50, 400) * MS, publish)
    return True


def _recall_apart(world: World, chance: random.Random, draw: int) -> bool:
    """A broker lives twice while one of its peers can't reach it: that one knows only what was before."""
    broker = _running(world, chance)
    if broker is None or not world.plan.recall or world.plan.fsync or len(world.brokers) < 3:
        return False
    apart = chance.choice([name for name in world.brokers if name != broker.name])
    offline = {(apart, broker.name)} - world.cuts
    world.cuts |= offline
    for wire in world.wires:
        if wire.ends == (apart, broker.name):
            wire.cut(silent=False)
    world.restless += 1

    def live(left: int) -> None:
        _leave(world, broker, stops=False)
        world.say(f"{apart} can't reach {broker.name}, which has {left} lives left")
        world.start(broker)
        if left:
            for wait_ms in (300, 400, 500):
                world.clockwork.after(wait_ms * MS, publish)
            world.clockwork.after(chance.randint(600, 1000) * MS, lambda: live(left - 1))
        else:
            world.clockwork.after(300 * MS, heal)

    def publish() -> None:
        for publisher in world.publishers:
            if publisher.broker is broker:
                publisher.publish(chance.choice(TOPICS), None, 1)

    def heal() -> None:
        world.restless -= 1
        world.cuts.difference_update(offline)

    live(2)
    return True


def _leave(world: World, broker: SimBroker, *, stops: bool) -> None:
    """The broker's life ends, if it is in one."""
    if broker.node is None:
        return
    world.say(f"{broker.name} {'stops' if stops else 'crashes'}")
    _lose(world, broker)
    if stops and not broker.paused:
        broker.stop()
    else:
        broker.crash()


def _end(world: World, broker: SimBroker, *, silent: bool = False) -> None:
    _lose(world, broker)
    broker.crash(silent=silent)


def _lose(world: World, broker: SimBroker) -> None:
    for subscriber in world.subscribers:
        if subscriber.broker is broker:
            subscriber.broker_lost_memory()
    world.disturbed(broker)


def _pause(world: World, chance: random.Random, draw: int) -> bool:
    broker = _running(world, chance)
    if broker is None or broker.paused:
        return False
    world.say(f"{broker.name} pauses")
    world.disturbed(broker)
    broker.pause()
    world.clockwork.after(chance.randint(1, 3000) * MS, broker.go_on)
    return True


def _client_cut(world: World, chance: random.Random, draw: int) -> bool:
    clients: list[Publisher | Subscriber] = [*world.publishers, *world.subscribers]
    client = _pick(chance, clients)
    if client is None:
        return False
    world.say(f"{client.name} is cut off its broker")
    client.cut()
    return True


def _app_restart(world: World, chance: random.Random, draw: int) -> bool:
    subscriber = _pick(chance, world.subscribers)
    if subscriber is None:
        return False
    world.say(f"{subscriber.name} restarts")
    return subscriber.restart()


def _busy_close(world: World, chance: random.Random, draw: int) -> bool:
    """A stream is busy with what hardly any reader wants; a reader of it closes behind that, and comes back."""
    if not world.publishers:
        return False
    publisher = chance.choice(world.publishers)
    closing = [s for s in world.subscribers if s.keeps != "nothing" and s.undisturbed]
    near = [s for s in closing if s.broker is publisher.broker]
    subscriber = _pick(chance, near if chance.random() < 0.5 else closing)
    for _ in range(chance.choice([3, 10, 20])):
        publisher.publish("busy.x", None, 1)
    if subscriber is None:
        return False
    after_ms = chance.choice([0, 1, 5, 50, 500])
    world.clockwork.after(after_ms * MS, subscriber.close)
    return True


def _app_pause(world: World, chance: random.Random, draw: int) -> bool:
    """The application stands still: what its broker writes waits in the socket."""
    subscriber = _pick(chance, world.subscribers)
    if subscriber is None or not subscriber.pause():
        return False
    world.say(f"{subscriber.name} pauses")
    world.clockwork.after(chance.randint(1, 3000) * MS, subscriber.go_on)
    return True


def _filter(world: World, chance: random.Random, draw: int) -> bool:
    subscriber = _pick(chance, world.subscribers)
    return subscriber is not None and subscriber.change_filter(chance.choice(PATTERNS))


def _clock_step(world: World, chance: random.Random, draw: int) -> bool:
    world.clockwork.wall_us += chance.choice([-3600, 3600]) * 1_000_000
    return True


def _running(world: World, chance: random.Random) -> SimBroker | None:
    return _pick(chance, [b for b in world.brokers.values() if b.node is not None])


def _pick(chance: random.Random, some: Iterable[Some]) -> Some | None:
    every = list(some)
    return chance.choice(every) if every else None


_STEPS: dict[str, Callable[[World, random.Random, int], bool]] = {
    "start": _start,
    "publisher": _publisher,
    "copy": _copy,
    "subscribe": _subscribe,
    "publish": _publish,
    "burst": _burst,
    "cut": _cut,
    "cut_in_time": _cut_in_time,
    "silent_cut": _silent_cut,
    "hold": _hold,
    "heal": _heal,
    "partition": _partition,
    "outage": _outage,
    "crash": _crash,
    "crash_both": _crash_both,
    "crash_at_contact": _crash_at_contact,
    "crash_untold": _crash_untold,
    "power_cut": _power_cut,
    "forget_together": _forget_together,
    "forty_lives": _forty_lives,
    "put_back": _put_back,
    "life_between": _life_between,
    "lose_witness": _lose_witness,
    "lose_unheard": _lose_unheard,
    "recall_apart": _recall_apart,
    "restart": _restart,
    "pause": _pause,
    "client_cut": _client_cut,
    "app_restart": _app_restart,
    "app_pause": _app_pause,
    "busy_close": _busy_close,
    "filter": _filter,
    "clock_step": _clock_step,
    "lie": tell_one,
}
