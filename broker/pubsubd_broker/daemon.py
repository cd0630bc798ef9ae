"""The daemon: binds what the settings say, serves, and ends cleanly on a signal."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from typing import Final

import structlog
import uvloop

from pubsubd_broker.admin_http import AdminServer
from pubsubd_broker.broker import Broker
from pubsubd_broker.core.dialling import format_address
from pubsubd_broker.keeping import open_journal
from pubsubd_broker.logs import configure_logging
from pubsubd_broker.settings import Settings
from pubsubd_broker.systemd import Systemd
from pubsubd_broker.unix_socket import ClientSocket, bind_client_socket
from pubsubd_protocol import __version__
from pubsubd_protocol.errors import PubSubError

DRAIN_S: Final = 5.0
"""How long a stopping broker waits for connected readers to take what was accepted."""

BACKLOG: Final = 1024

log = structlog.get_logger("pubsubd")


class ListenError(PubSubError):
    """An address can't be listened on. Says which and why."""

    def __init__(self, what: str, host: str, port: int, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"{what} {host}:{port}: {reason}: choose another address")


def run(settings: Settings) -> int:
    """Runs a broker until it is told to stop; returns its exit code.

    Raises `SocketError`, `ListenError` or `JournalError` if it can't have its socket, an address or its journal.
    """
    configure_logging(settings.log_format, settings.log_level)
    _raise_descriptor_limit()
    clients = bind_client_socket(settings.socket)
    try:
        return uvloop.run(_serve(settings, clients))
    finally:
        clients.release()


def _raise_descriptor_limit() -> None:
    """As many descriptors as the system allows: every session is one, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            # macOS calls its hard limit infinite and refuses it.
            log.warning("descriptors.limited", soft=soft, error=str(error))


async def _serve(settings: Settings, clients: ClientSocket) -> int:
    """Returns the exit code: 1 if the journal lacks something that a clean stop ought to have kept."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    _handle_signals(loop, stop)
    folder, kept = open_journal(settings) or (None, None)
    broker = Broker(settings, kept)
    around = broker.node.surroundings
    around.socket = settings.socket
    systemd = Systemd(os.environ, os.getpid())
    servers: list[asyncio.AbstractServer] = []
    admin: AdminServer | None = None
    if settings.http is not None:
        admin = AdminServer(broker.status)
        try:
            await admin.listen(*settings.http)
        except OSError as error:
            raise ListenError("--http", *settings.http, error) from error
        around.http = format_address(admin.address)
    if settings.listen is not None:
        try:
            peers = await loop.create_server(
                broker.peer_link, *settings.listen, backlog=BACKLOG, start_serving=False
            )
        except OSError as error:
            raise ListenError("--listen", *settings.listen, error) from error
        servers.append(peers)
        around.listen = format_address(peers.sockets[0].getsockname()[:2])
    servers.append(
        await loop.create_unix_server(
            broker.client_link, sock=clients.socket, backlog=BACKLOG, start_serving=False
        )
    )
    if folder is not None:
        # Not before every address is had: a broker that can't start leaves the journal as it is.
        broker.keep(folder)
    for server in servers:
        await server.start_serving()
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
    for server in servers:
        server.close()
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
