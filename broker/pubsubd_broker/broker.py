"""The shell around a node: sockets, clocks and chance in; what it wants sent, dialled and logged out."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Final

import structlog

from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.journal.keeper import Kept
from pubsubd_broker.core.limits import FETCH_BYTES, SECOND_NS, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.status import Status, node_status, report
from pubsubd_broker.files.places import Places
from pubsubd_broker.journal.folder import JournalFolder
from pubsubd_broker.journal.life_record import DiskRecord
from pubsubd_broker.journal.writer import JournalWriter
from pubsubd_broker.logs.setup import dropped_lines
from pubsubd_broker.process.off_loop import off_loop
from pubsubd_broker.settings.for_core import config_of
from pubsubd_broker.settings.values import Settings
from pubsubd_broker.sockets.dialler import Dialler
from pubsubd_broker.sockets.link import Link
from pubsubd_broker.trust.channel import channel_of
from pubsubd_broker.trust.peer_trust import PeerTrust
from pubsubd_broker.trust.secret_files import SecretError
from pubsubd_broker.trust.tls import HandshakeFailed, Reloaded, Unchanged
from pubsubd_protocol.positions import EPOCH_BYTES, new_epoch
from pubsubd_protocol.proof import NONCE_BYTES

TICK_S: Final = 0.05
LAST_FLUSH_NS: Final = 5_000_000
"""Time in one turn of the loop for input, and the same time again for connections that are ready to be served."""

log = structlog.get_logger("pubsubd")


def read_clocks() -> Now:
    return Now(time.monotonic_ns(), time.time_ns() // 1000)


class Broker:
    """Node, live on an event loop. Writes go out once per loop turn, pulled by what is ready."""

    def __init__(
        self,
        settings: Settings,
        trust: PeerTrust,
        kept: Kept | None = None,
        record: DiskRecord | None = None,
    ) -> None:
        """`kept`: what an earlier life left on disk. `record`: of the lives of this node. See `begin`."""
        self._settings = settings
        self._tls = trust.tls
        self._secret = trust.secret
        secret = trust.secret.value if trust.secret is not None else None
        config = config_of(settings, secret, os.geteuid())
        epoch = new_epoch(os.urandom(EPOCH_BYTES))
        self.node = Node(
            config, epoch, list(settings.peers), read_clocks(), kept, record, answer_query=report
        )
        self.places = Places(self.node.runtime.places)
        if self._tls is not None:
            self.places.add("certificate", self._tls.cert, self._look_at_certificate)
        if self._secret is not None:
            self.places.add("secret", self._secret.path, self._look_at_secret)
        self._record = record
        self._writer: JournalWriter | None = None
        self._loop = asyncio.get_running_loop()
        self._links: dict[Connection, Link] = {}
        self._flush_due = False
        self._taken_ns = 0
        """Time that input has taken in this turn of the loop."""
        # When those who wait for readers are to ask again, and the timer for that.
        self._paced_until_ns: int | None = None
        self._pace_timer: asyncio.TimerHandle | None = None
        self._beginning: asyncio.Task[None] | None = None
        """Notes a life that peers gave its history."""
        self._dialler = Dialler(self, trust.tls, self.user_timeout_ms)
        self.drained = True
        """Whether every connected reader had all accepted messages at the stop."""

    async def begin(self, folder: JournalFolder | None) -> None:
        """This life begins: the next one will know of it. No peer and no client may have heard of it before.

        All that is accepted is written into `folder` from now on. Raises `JournalError`. Uses up a snapshot that an
        earlier life left. A life that asks its peers for its history begins when they have given it, see `tick`.
        """
        if self.node.recovery is None:
            await off_loop("pubsubd-life", self.node.own_life.begin)
        if folder is not None:
            await self._keep(folder)
        if self._record is not None:
            await off_loop("pubsubd-life", self._record.settle)

    async def _begin_recovered(self) -> None:
        """Serves all clients and peers as soon as the next life will know of this one, however long the disk takes."""
        try:
            await off_loop("pubsubd-life", self.node.own_life.begin)
        except Exception:
            # A fault. This broker stays one that asks its peers: what it would accept could be lost without a word.
            log.exception("life.failed")
            return
        self.node.life_begun()
        self.flush_soon()

    async def _keep(self, folder: JournalFolder) -> None:
        self.node.runtime.journal = folder.path
        self._writer = JournalWriter(self.node, folder, read_clocks, self.flush_soon, self._record)
        await self._writer.begin()
        self.places.add("journal", folder.path, self._writer.look)

    def status(self) -> Status:
        return node_status(self.node, read_clocks())

    async def run(self) -> None:
        """Lets time pass for the node, until cancelled."""
        due = self._loop.time()
        while True:
            due += TICK_S
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            late = self._loop.time() - due
            self.node.runtime.event_loop_lag_s = max(0.0, late)
            if late > TICK_S:
                due = self._loop.time()
            try:
                self.tick()
            except Exception:
                # A tick that fails is a fault; a broker without ticks would be deaf and mute from then on.
                log.exception("tick.failed")

    def tick(self) -> None:
        now = read_clocks()
        self.node.runtime.tasks = len(asyncio.all_tasks())
        self.node.runtime.log_lines_dropped = dropped_lines()
        self.node.tick(now)
        recovery = self.node.recovery
        if recovery is not None and recovery.decided and self._beginning is None:
            self._beginning = self._loop.create_task(self._begin_recovered())
        self.places.tick(self._loop.time())
        if self._tls is not None:
            self.node.runtime.certificate_expires_s = self._tls.not_after
        for target in self.node.due(now):
            self._dialler.dial(target)
        self.flush_soon()

    async def drain(self, seconds: float) -> None:
        """Waits until all connected readers have what was accepted; `drained` says whether they do."""
        self.node.drain()
        self.drained = False
        deadline = self._loop.time() + seconds
        while self._loop.time() < deadline:
            self.flush()
            if self.node.drained and not any(link.unsent_bytes for link in self._links.values()):
                self.drained = True
                return
            await asyncio.sleep(0.01)

    async def close_links(self) -> None:
        """Ends every connection, and every dial that is under way. The node has heard of each end when this returns."""
        await self._dialler.close()
        now = read_clocks()
        self.node.part(now)
        for link in list(self._links.values()):
            self._serve(link, now)
        for link in list(self._links.values()):
            link.close()
        await asyncio.sleep(0)
        for link in list(self._links.values()):
            link.abort()
        self.flush()
        if self._pace_timer is not None:
            self._pace_timer.cancel()

    async def close_journal(self) -> None:
        """Write all that was accepted, or let `node.failure` say why that is not possible.

        A life that is being begun has its file then: nothing may be made beside the socket that another broker has.
        """
        if self._beginning is not None:
            await asyncio.shield(self._beginning)
        if self._writer is not None:
            await self._writer.close()

    # The links' side.

    def accepted(self, link: Link, remote: Remote, *, peers: bool) -> Connection:
        connection = self.node.accept(remote, read_clocks(), peers=peers)
        self._links[connection] = link
        return connection

    def dialled(self, link: Link, target: Target) -> Connection:
        nonce, channel = os.urandom(NONCE_BYTES), channel_of(link.transport)
        remote = Remote(target.label, host=target.address[0], nonce=nonce, channel=channel)
        connection = self.node.dialled(target, remote, read_clocks())
        self._links[connection] = link
        return connection

    def dial_failed(self, target: Target, reason: str) -> None:
        self.node.dial_failed(target, reason, read_clocks(), random.random())
        self.flush_soon()

    def turned_away(self, remote: Remote, reason: str, detail: str) -> None:
        """Reports a remote end that has ended before it had a connection."""
        self.node.events.turned_away(remote.label, remote.origin, reason, detail)
        self.flush_soon()

    def received(self, link: Link, count: int) -> None:
        connection, now = link.connection, read_clocks()
        try:
            connection.received(count, now, at_once=self._taken_ns < LAST_FLUSH_NS)
        except Exception as error:
            self._crashed(connection, error)
        self._taken_ns += time.monotonic_ns() - now.mono_ns
        self.flush_soon()

    def lost(self, link: Link) -> None:
        self._links.pop(link.connection, None)
        try:
            link.connection.lost(read_clocks(), random.random())
        except Exception as error:
            self._crashed(link.connection, error)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Once more in this loop turn, however often it is asked for."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is ready where the socket takes it, then logs what happened."""
        self._flush_due = False
        self._taken_ns = 0
        now = read_clocks()
        ready = self.node.ready.take()
        for served, connection in enumerate(ready, 1):
            link = self._links.get(connection)
            if link is not None:
                self._serve(link, now)
                if time.monotonic_ns() - now.mono_ns > LAST_FLUSH_NS:
                    self.node.ready.put_off(ready[served:])
                    break
        self.node.pulled(now)
        if self._writer is not None:
            self._writer.go_on(now)
        if self.node.ready:
            self.flush_soon()
        if self.node.pace.holding or self._pace_timer is not None:
            self._plan_pace(now)
        for notice in self.node.notices.take():
            getattr(log, notice.level)(notice.event, **notice.fields)

    def _plan_pace(self, now: Now) -> None:
        due_ns = self.node.pace.due_ns
        if due_ns == self._paced_until_ns:
            return
        if self._pace_timer is not None:
            self._pace_timer.cancel()
            self._pace_timer = None
        self._paced_until_ns = due_ns
        if due_ns is not None:
            delay_s = max(0, due_ns - now.mono_ns) / SECOND_NS
            self._pace_timer = self._loop.call_later(delay_s, self._go_on)

    def _go_on(self) -> None:
        self._pace_timer = None
        self._paced_until_ns = None
        self.node.pace.go_on(read_clocks())
        self.flush()

    def _serve(self, link: Link, now: Now) -> None:
        """A failure is that link's end, and no other's: others are ready as well, and the journal comes after them."""
        connection = link.connection
        try:
            if connection.writable or connection.closing:
                try:
                    buffers = connection.pull(FETCH_BYTES, now)
                except Exception as error:
                    self._crashed(connection, error)
                    buffers = []
                link.write(buffers)
            elif connection.behind:
                connection.go_on(now)
                link.regulate()
        except Exception as error:
            self._crashed(connection, error)
            link.abort(error)

    def _crashed(self, connection: Connection, error: Exception) -> None:
        log.error("connection.crashed", connection=connection.label, exc_info=error)
        connection.failed(error)

    @property
    def user_timeout_ms(self) -> int:
        """Time for which the kernel keeps on trying for a peer that acknowledges nothing."""
        return self._settings.core.peer_timeout_ns // 1_000_000

    async def _look_at_certificate(self) -> str | None:
        assert self._tls is not None
        match await off_loop("pubsubd-certificate", self._tls.refresh):
            case Reloaded(not_after):
                log.info("tls.reloaded", not_after=not_after)
            case HandshakeFailed(reason):
                log.error("tls.reload_failed", reason=reason)
            case Unchanged():
                pass
        return self._tls.error

    async def _look_at_secret(self) -> str | None:
        assert self._secret is not None
        try:
            changed = await off_loop("pubsubd-secret", self._secret.refresh)
        except SecretError as error:
            return str(error)
        if changed:
            self.node.take_secret(self._secret.value)
            log.info("secret.reloaded", path=self._secret.path)
        return None
