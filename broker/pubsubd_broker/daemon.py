"""The daemon: binds what the settings say, serves, and ends cleanly on a signal."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

import structlog
import uvloop

from pubsubd_broker.broker import Broker
from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.http.server import AdminServer
from pubsubd_broker.journal.life_place import mend
from pubsubd_broker.journal.life_record import DiskRecord, life_beside
from pubsubd_broker.journal.opening import open_journal
from pubsubd_broker.journal.snapshots import tidy_snapshots
from pubsubd_broker.logs.setup import configure_logging
from pubsubd_broker.process.ending import Shutdown
from pubsubd_broker.process.off_loop import off_loop
from pubsubd_broker.process.stop_request import StopAsked, StopRequest
from pubsubd_broker.process.systemd import Systemd
from pubsubd_broker.settings.values import Settings
from pubsubd_broker.sockets.acceptors import ClientAcceptor, PeerAcceptor
from pubsubd_broker.sockets.host_names import bind
from pubsubd_broker.sockets.listener import Listener
from pubsubd_broker.sockets.unix_socket import ClientSocket, bind_client_socket
from pubsubd_broker.trust.peer_trust import PeerTrust, load_peer_trust
from pubsubd_protocol import __version__
from pubsubd_protocol.addresses import format_address
from pubsubd_protocol.errors import PubSubError

T = TypeVar("T")

DRAIN_S: Final = 5.0
"""Time that a stopping broker gives connected readers to take what was accepted."""

RESERVED_DESCRIPTORS: Final = 512
"""That clients and peers who come cannot take, or three quarters of all where there are few."""

log = structlog.get_logger("pubsubd")


class ListenError(PubSubError):
    """An address cannot be listened on. Says which and why."""

    def __init__(self, what: str, host: str, port: int, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"{what} {format_address((host, port))}: {reason}: choose another address")


def run_broker(settings: Settings) -> int:
    """Runs a broker until it is told to stop; returns its exit code.

    Raises `SocketError`, `ListenError`, `JournalError`, `SecretError` or `TlsError` if it cannot have its socket, an
    address, its journal, its secret or its certificate. What it had taken before is released then.
    """
    stop = StopRequest()
    configure_logging(settings.log_format, settings.log_level)
    settings = _within(settings, _raise_descriptor_limit())
    try:
        return uvloop.run(_serve(settings, stop))
    finally:
        stop.detach()


def _raise_descriptor_limit() -> int:
    """As many descriptors as the system allows: every session is one, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        # macOS calls its hard limit infinite and refuses it.
        log.warning("descriptors.limited", soft=soft, error=str(error))
        return soft
    return hard


def _within(settings: Settings, descriptors: int) -> Settings:
    """No more connections than leave some descriptors for peers, the journal, HTTP and those that are turned away."""
    most = descriptors - min(RESERVED_DESCRIPTORS, descriptors - descriptors // 4)
    if most >= settings.limits.connections:
        return settings
    log.warning(
        "connections.limited",
        descriptors=descriptors,
        max_connections=most,
        wanted=settings.limits.connections,
    )
    limits = replace(settings.limits, connections=most)
    return replace(settings, core=replace(settings.core, limits=limits))


async def _serve(settings: Settings, stop: StopRequest) -> int:
    """Returns the exit code: 1 if the journal lacks something that a clean stop ought to have kept, or the stop failed.

    A stop may be asked for at any moment of the start. It then ends with what was taken up to there.
    """
    loop = asyncio.get_running_loop()
    stop.attach(loop)
    systemd = Systemd(os.environ, os.getpid())
    ending, broker = Shutdown(), None
    try:
        started = asyncio.Event()
        watchdog = loop.create_task(_watch(systemd, started))
        ending.add("watchdog", watchdog.cancel)
        broker = await _start(settings, stop, ending)
        systemd.ready()
        started.set()
        # Collections look no more at what was loaded and built up to here, which is most of it, and stays.
        gc.freeze()
        await stop.wait()
    except StopAsked:
        pass
    finally:
        if stop.asked is not None:
            log.info("broker.stopping", signal=stop.asked)
            systemd.stopping()
        whole = await ending.run()
    failed = broker is not None and broker.node.failure is not None
    log.info(
        "broker.stopped",
        node=settings.node,
        drained=broker is None or broker.drained,
        next_offset=None if broker is None else broker.node.stream.next,
    )
    return 0 if whole and not failed else 1


async def _start(settings: Settings, stop: StopRequest, ending: Shutdown) -> Broker:
    """Takes what the settings name, one after the other, and serves. `ending` releases it, also after an error.

    Raises `StopAsked` before the first word is said to any client or peer, if a stop is asked for until then.
    """
    trust = await stop.unless_asked(off_loop("pubsubd-trust", load_peer_trust, settings))
    stop.check()
    binding = off_loop("pubsubd-bind", bind_client_socket, settings.socket, settings.socket_mode)
    clients = await stop.unless_asked(binding)
    # Off the loop: its file system may have stopped answering.
    ending.add("socket", lambda: off_loop("pubsubd-release", clients.release))
    stop.check()
    finding = off_loop("pubsubd-lives", DiskRecord, settings.socket, settings.node)
    record = await stop.unless_asked(finding)
    reading = off_loop("pubsubd-recovery", open_journal, settings, record)
    folder, kept = await stop.unless_asked(reading) or (None, None)
    if folder is not None:
        ending.add("journal folder", folder.close)
    stop.check()
    broker = Broker(settings, trust, kept, record)
    # However long the disk takes: a third signal ends the process if that is too long.
    ending.add("journal", broker.close_journal, limit_s=None)
    ending.add("links", broker.close_links)
    _watch_life(broker, clients, record)
    listeners = await _listen(settings, stop, ending, broker, clients, trust)
    # Last of all that may fail: a broker that cannot start leaves the journal as it is. From here on nothing comes
    # between a snapshot that is used up and the life that uses it, and a stop writes a new one.
    await broker.begin(folder)
    await off_loop("pubsubd-tidy", tidy_snapshots, settings)
    _go(settings, stop, ending, broker, listeners)
    return broker


def _watch_life(broker: Broker, clients: ClientSocket, record: DiskRecord) -> None:
    """Has the witness beside the socket looked at, as long as no other broker has that place."""

    def held(step: Callable[[], T], /) -> Awaitable[T | None]:
        return off_loop("pubsubd-life", clients.while_held, step)

    async def look() -> None:
        if record.beside is not None:
            await mend(record.beside, held)

    broker.places.add("life", life_beside(clients.path), look)


async def _listen(
    settings: Settings,
    stop: StopRequest,
    ending: Shutdown,
    broker: Broker,
    clients: ClientSocket,
    trust: PeerTrust,
) -> list[Listener]:
    """Has every address, and accepts no connection yet. Raises `ListenError`."""
    around = broker.node.runtime
    around.socket = settings.socket
    pauses = around.accept_pauses
    handshake_s, most = settings.limits.handshake_ns / SECOND_NS, settings.limits.connections
    local = ClientAcceptor(broker)
    listeners = [Listener("socket", clients.socket, local, pauses, handshake_s, most)]
    ending.add("clients' listener", listeners[0].close)

    async def look_at_socket() -> str | None:
        trouble = await off_loop("pubsubd-socket", clients.look)
        listeners[0].listen_at(clients.socket)
        return trouble

    broker.places.add("socket", settings.socket, look_at_socket)
    if settings.http is not None:
        admin = AdminServer(
            broker.status,
            deadline_s=settings.http_timeout_s,
            max_connections=settings.http_max_connections,
            max_head_bytes=settings.http_max_head,
            refused=around.http_refused,
        )
        ending.add("http", admin.close)
        try:
            await stop.unless_asked(asyncio.ensure_future(admin.listen(*settings.http)))
        except OSError as error:
            raise ListenError("--http", *settings.http, error) from error
        around.http = format_address(admin.address)
        stop.check()
    if settings.listen is not None:
        try:
            # Off the loop: a name server may take its time.
            peers = await stop.unless_asked(off_loop("pubsubd-bind", bind, *settings.listen))
        except OSError as error:
            raise ListenError("--listen", *settings.listen, error) from error
        remote = PeerAcceptor(broker, trust.tls, broker.user_timeout_ms)
        for each in peers:
            listeners.append(Listener("peers", each, remote, pauses, handshake_s, most))
            ending.add("peers' listener", listeners[-1].close)
        around.listen = format_address(peers[0].getsockname()[:2])
        stop.check()
    return listeners


def _go(
    settings: Settings,
    stop: StopRequest,
    ending: Shutdown,
    broker: Broker,
    listeners: list[Listener],
) -> None:
    """The broker serves from now on."""
    loop = asyncio.get_running_loop()

    async def drain() -> None:
        for listener in listeners:
            listener.close()
        await stop.unless_asked_again(broker.drain(DRAIN_S))

    ticker = loop.create_task(broker.run())
    ending.add("places", broker.places.close)
    ending.add("ticker", ticker.cancel)
    ending.add("drain", drain, limit_s=2 * DRAIN_S)
    for listener in listeners:
        listener.start()
    broker.tick()
    around = broker.node.runtime
    log.info(
        "broker.started",
        node=settings.node,
        epoch=broker.node.epoch.hex(),
        version=__version__,
        socket=settings.socket,
        listen=around.listen,
        http=around.http,
        peers=[target.label for target in broker.node.targets],
    )


async def _watch(systemd: Systemd, started: asyncio.Event) -> None:
    """Feeds the watchdog from the moment at which systemd looks at it, to the very end: a last flush may take long."""
    await started.wait()
    while systemd.watchdog_s is not None:
        systemd.watchdog()
        await asyncio.sleep(systemd.watchdog_s)
