"""The daemon: binds what the settings say, serves, and ends cleanly on a signal."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from dataclasses import replace
from typing import Final

import structlog
import uvloop

from pubsubd_broker.admin_http import AdminServer
from pubsubd_broker.broker import Broker
from pubsubd_broker.core.dialling import format_address
from pubsubd_broker.doors import ClientDoor, PeerDoor
from pubsubd_broker.keeping import open_journal
from pubsubd_broker.listener import Listener
from pubsubd_broker.logs import configure_logging
from pubsubd_broker.peer_trust import PeerTrust, load_peer_trust
from pubsubd_broker.settings import Settings
from pubsubd_broker.snapshots import tidy_snapshots
from pubsubd_broker.systemd import Systemd
from pubsubd_broker.unix_socket import ClientSocket, bind_client_socket
from pubsubd_protocol import __version__
from pubsubd_protocol.errors import PubSubError

DRAIN_S: Final = 5.0
"""How long a stopping broker waits for connected readers to take what was accepted."""

BACKLOG: Final = 1024

RESERVED_DESCRIPTORS: Final = 512
"""That clients and peers who come can't take, or three quarters of all where there are few."""

log = structlog.get_logger("pubsubd")


class ListenError(PubSubError):
    """An address can't be listened on. Says which and why."""

    def __init__(self, what: str, host: str, port: int, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"{what} {host}:{port}: {reason}: choose another address")


def run(settings: Settings) -> int:
    """Runs a broker until it is told to stop; returns its exit code.

    Raises `SocketError`, `ListenError`, `JournalError`, `SecretError` or `TlsError` if it can't have its socket, an
    address, its journal, its secret or its certificate.
    """
    configure_logging(settings.log_format, settings.log_level)
    settings = _within(settings, _raise_descriptor_limit())
    trust = load_peer_trust(settings)
    clients = bind_client_socket(settings.socket, settings.socket_mode)
    try:
        return uvloop.run(_serve(settings, trust, clients))
    finally:
        clients.release()


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
    if most >= settings.max_connections:
        return settings
    log.warning(
        "connections.limited",
        descriptors=descriptors,
        max_connections=most,
        wanted=settings.max_connections,
    )
    return replace(settings, max_connections=most)


async def _serve(settings: Settings, trust: PeerTrust, clients: ClientSocket) -> int:
    """Returns the exit code: 1 if the journal lacks something that a clean stop ought to have kept."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    _handle_signals(loop, stop)
    folder, kept = open_journal(settings) or (None, None)
    broker = Broker(settings, trust, kept)
    around = broker.node.surroundings
    around.socket = settings.socket
    systemd = Systemd(os.environ, os.getpid())
    pauses = around.accept_pauses
    handshake_s, most = settings.handshake_timeout_s, settings.max_connections
    listeners = [Listener("socket", clients.socket, ClientDoor(broker), pauses, handshake_s, most)]
    admin: AdminServer | None = None
    if settings.http is not None:
        admin = AdminServer(
            broker.status,
            deadline_s=settings.http_timeout_s,
            max_connections=settings.http_max_connections,
            max_head_bytes=settings.http_max_head,
            refused=around.http_refused,
        )
        try:
            await admin.listen(*settings.http)
        except OSError as error:
            raise ListenError("--http", *settings.http, error) from error
        around.http = format_address(admin.address)
    if settings.listen is not None:
        try:
            peers = _bind(*settings.listen)
        except OSError as error:
            raise ListenError("--listen", *settings.listen, error) from error
        door = PeerDoor(broker, trust.tls)
        listeners += [Listener("peers", each, door, pauses, handshake_s, most) for each in peers]
        around.listen = format_address(peers[0].getsockname()[:2])
    if folder is not None:
        # Not before every address is had: a broker that can't start leaves the journal as it is.
        broker.keep(folder)
    tidy_snapshots(settings)
    for listener in listeners:
        listener.start()
    ticker = loop.create_task(broker.run())
    watchdog = loop.create_task(_watch(systemd))
    broker.tick()
    log.info(
        "broker.started",
        node=settings.node,
        epoch=broker.node.life.hex(),
        version=__version__,
        socket=settings.socket,
        listen=around.listen,
        http=around.http,
        peers=[target.label for target in broker.node.targets],
    )
    systemd.ready()
    await stop.wait()
    systemd.stopping()
    for listener in listeners:
        listener.close()
    drained = await broker.drain(DRAIN_S)
    ticker.cancel()
    watchdog.cancel()
    if admin is not None:
        await admin.close()
    await broker.close()
    log.info(
        "broker.stopped", node=settings.node, drained=drained, next_offset=broker.node.stream.next
    )
    return 0 if broker.node.failure is None else 1


def _bind(host: str, port: int) -> list[socket.socket]:
    """Listens at every address that `host` has. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
    except BaseException:
        for listening in bound:
            listening.close()
        raise
    return bound


def _handle_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def ask_to_stop(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("broker.aborted", signal=number.name)
            os._exit(1)
        log.info("broker.stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop, number)
    loop.add_signal_handler(signal.SIGHUP, log.info, "signal.ignored")


async def _watch(systemd: Systemd) -> None:
    while systemd.watchdog_s is not None:
        systemd.watchdog()
        await asyncio.sleep(systemd.watchdog_s)
