"""Node: builds the parts of one broker, connects them, and is the shell's API. Pure.

The shell gives it connections, bytes and the time. It gives back the connections that may have something to send (`ready`),
the addresses to dial (`due`), and the notices to log (`notices`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.journal.keeper import Keeper, Kept
from pubsubd_broker.core.journal.life import Life, LifeRecord, MemoryRecord
from pubsubd_broker.core.journal.parts import Parts
from pubsubd_broker.core.journal.recovery import from_peers
from pubsubd_broker.core.journal.restore import report_recovery, restore
from pubsubd_broker.core.limits import PUBLISH_WINDOW, TICK_NS, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.links.links import Links
from pubsubd_broker.core.links.peer_recovery import PeerHistory, PeerRecovery
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.observe.counters import Counters
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.observe.notices import Notices
from pubsubd_broker.core.observe.runtime_info import RuntimeInfo
from pubsubd_broker.core.observer import Observer
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_broker.core.streams.publishers import Publishers
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.addresses import Address
from pubsubd_protocol.frames import Query
from pubsubd_protocol.positions import Epoch


class Node:
    """A broker without sockets. `epoch`: of this life; the shell draws it from the system's entropy, never twice."""

    def __init__(
        self,
        config: Config,
        epoch: Epoch,
        peers: list[Address],
        now: Now,
        kept: Kept | None = None,
        record: LifeRecord | None = None,
        observer: Observer | None = None,
        answer_query: Callable[[Node, Query, Now], str] = lambda node, query, now: "{}",
    ) -> None:
        """`kept`: state on disk. `record`: notes for later lives. `answer_query`: answers a command, see `status.report`."""
        recovered = kept.recovered if kept is not None else None
        self.config = config
        self.name, self.epoch = config.node, epoch
        self.started_ns = self._ticked_ns = now.mono_ns
        self._observer = observer or Observer()
        self.own_life = Life(epoch, record or MemoryRecord(config.node), recovered)
        self.notices = Notices(config.log_repeat_ns)
        self.events = Events(Counters(), self.notices)
        self.runtime = RuntimeInfo()
        self.pace = Pace(config.pace_ns)
        self.stream = Stream(
            config.node,
            epoch,
            ring_messages=config.ring_messages,
            ring_bytes=config.ring_bytes,
            max_message=config.max_message,
            pace=self.pace,
            accepted=self.own_life.record.accepted,
            published=observer.published if observer is not None else None,
        )
        self.registry = CursorRegistry(config.limits.consumers)
        self.publishers = Publishers(config.limits.publishers, PUBLISH_WINDOW)
        replicas: dict[str, Replica] = {}
        producers: dict[str, ConsumerEnd] = {}
        self.sessions = Sessions(
            *(config.node, epoch, config.limits, self.notices),
            own=self.stream,
            replicas=replicas,
            producers=producers,
            started_ns=now.mono_ns,
        )
        self.links = Links(
            config.for_links(epoch),
            epoch,
            peers,
            stream=self.stream,
            registry=self.registry,
            publishers=self.publishers,
            sessions=self.sessions,
            replicas=replicas,
            producers=producers,
            pace=self.pace,
            events=self.events,
            observer=observer,
            answer=partial(answer_query, self),
            started_ns=now.mono_ns,
        )
        self.intake, self.peers = self.links.intake, self.links.peers
        self.targets, self.connections = self.links.targets, self.links.connections
        self.ready = self.connections.ready
        self._parts = Parts(config.node, self.stream, self.registry, self.publishers, self.sessions)
        if recovered is not None:
            restore(self._parts, recovered, self.own_life, self.notices, now)
        self.keeper: Keeper | None = None
        if kept is not None:
            self.keep(kept)
        if config.recover_from_peers and recovered is None and peers:
            self.links.recover(self.own_life.latest_known, self._continue)
        else:
            self._observer.stream_began(self.stream, recovered)

    # Connections.

    def accept(self, remote: Remote, now: Now, *, peers: bool) -> Connection:
        """Takes a connection that came in. `peers`: on the socket for peers, else on that for clients."""
        return self.connections.accept(remote, now, peers=peers)

    def due(self, now: Now) -> list[Target]:
        """Targets to dial now."""
        return self.links.due(now)

    def dialled(self, target: Target, remote: Remote, now: Now) -> Connection:
        """Takes the connection of a dial that succeeded."""
        return self.links.dialled(target, remote, now)

    def dial_failed(self, target: Target, error: str, now: Now, chance: float) -> None:
        self.targets.dial_failed(target, error, now.mono_ns, chance)

    def take_secret(self, secret: bytes) -> None:
        """Proves links that open from now on with `secret`. Open links stay as they are."""
        self.links.take_secret(secret)

    # Time.

    def pulled(self, now: Now) -> None:
        """Lets held publishers retry after a round of pulls: readers may have moved."""
        if self.pace.holding:
            self.pace.go_on(now)

    def tick(self, now: Now) -> None:
        """Does all that waits for time. The shell calls this about every 50 ms."""
        self.pace.go_on(now)
        if self.keeper is not None:
            self.keeper.tick()
        if self.recovery is not None:
            self.recovery.tick(now)
        self.peers.tick(now)
        if self.intake.draining:
            self.sessions.remind()
        if now.mono_ns - self._ticked_ns < min(self.config.heartbeat_ns // 4, TICK_NS):
            return
        self._ticked_ns = now.mono_ns
        self.notices.tick(now.mono_ns)
        self.links.tick(now)
        self.sessions.forget_old(self.config.cursor_ttl_ns, now)
        self.peers.warn_of_lag(now)

    # The end of this life.

    def drain(self) -> None:
        """Accepts no more publishes. Accepted messages and the positions of sessions still go out."""
        self.intake.drain()
        self.sessions.remind()

    def part(self, now: Now) -> None:
        """Tells applications and producers the position of every session: the last frames of this life."""
        self.links.farewell(now)

    @property
    def drained(self) -> bool:
        """Whether every connected consumer and session has all accepted messages."""
        return self.intake.settled and self.peers.drained and self.sessions.drained

    @property
    def failure(self) -> str | None:
        """The reason for which the node accepts no more, if its journal has failed."""
        return self.intake.failure

    # State on disk, and history that peers hold.

    def keep(self, kept: Kept) -> None:
        """Keeps the node's state on disk from now on, with the settings of `kept`."""
        self.keeper = Keeper(
            self._parts,
            kept,
            failed=self.links.refuse_publishers,
            recovering=lambda: self.recovery is not None,
        )
        self.sessions.moved = self.keeper.session_moved
        if self.keeper.writes:
            self.stream.durability = self.keeper

    @property
    def recovery(self) -> PeerRecovery | None:
        """The recovery from peers, while it runs: until its end this node serves no client and no peer."""
        return self.links.recovery

    def life_begun(self) -> None:
        """Ends the recovery from peers, and serves clients and peers. The shell has noted this life for the next one."""
        report_recovery(self.own_life, self.stream.view, self.notices)
        self.links.end_recovery()

    def _continue(self, history: PeerHistory | None, now: Now) -> None:
        """Goes on with the history that peers held. The shell then notes this life, and calls `life_begun`."""
        recovered = None
        if history is not None:
            recovered = from_peers(self.name, history.view, history.entries, history.names)
        assert self.recovery is not None
        self._observer.peers_answered(recovered, self.recovery.ends)
        if recovered is not None:
            self.own_life.goes_on(recovered)
            restore(self._parts, recovered, self.own_life, self.notices, now)
        self._observer.stream_began(self.stream, recovered)
        for remembered in history.remembered if history is not None else ():
            self.sessions.remembered(*remembered)
