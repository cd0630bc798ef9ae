"""The contestants: their modes, and the remarks beside their figures."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, get_args

from bench.builds import SUFFIX, Build
from bench.clients.roles import Mode
from bench.servers.base import Command, NoServers, Servers
from bench.servers.floor import FloorServers
from bench.servers.nats import NatsServers, nats_server
from bench.servers.pubsubd import PubsubdServers
from bench.servers.redis import RedisServers, redis_server
from bench.workloads import Group, Kind, Workload

OURS: Final = "pubsubd"
"""The contestant that ratios compare with, if none is named."""

NOT_DURABLE: Final = "pubsubd-memory"
"""The contestant that the ones with a journal are compared with."""

_ALL: Final[frozenset[Kind]] = frozenset({"throughput", "catchup", "pause", "latency", "memory"})
_OURS_ALONE: Final[frozenset[Kind]] = frozenset({"witness"})
_RETAINING: Final = _ALL - {"pause"}
_FLEETING: Final = _RETAINING - {"catchup"}

_DURABLE: Final[frozenset[Group]] = frozenset({"durability"})
_STREAMED: Final[frozenset[Group]] = frozenset({"throughput"})
_BUILT_TWICE: Final[frozenset[Group]] = frozenset({"throughput", "receipts", "latency"})
_IN_MEMORY: Final[frozenset[Group]] = frozenset(get_args(Group)) - _DURABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    name: str
    about: str
    """The mode, and facts that a reader of the figures needs. One sentence."""
    client: str
    """Module below `bench.clients`."""
    servers: Callable[[Path, Workload, Command], Servers]
    python: Command = (sys.executable,)
    """Runs its publisher, its reader, and servers that are Python."""
    build: Build | None = None
    """The build of pubsubd that `python` has to have; None: no code of ours is measured."""
    beside: str = ""
    """The compiled contestant of which this is the interpreted form."""
    mode: Mode = "fast"
    against: str = OURS
    """The contestant that its figures are compared with."""
    kinds: frozenset[Kind] = _ALL
    confirms: bool = True
    """Whether a publisher can wait for a receipt."""
    groups: frozenset[Group] = _IN_MEMORY
    """The groups of workloads in which it is measured."""
    filters: bool = True
    """Whether a session gets only its own topics. Without that no session is ever idle."""
    needs: tuple[str, ...] = ()
    """Python packages."""
    binary: tuple[str, Callable[[], str | None]] | None = None
    """A server's program on this machine, and the function that finds it."""
    reader: str = "Reader"
    """The class in `client`."""
    quick: bool = False
    """Part of `--quick`."""

    def on(self, pythons: Mapping[Build, Path]) -> Contestant:
        """This contestant with the Python of its build, or of the other one where its build is not installed."""
        if self.build is None:
            return self
        build = self.build if self.build in pythons else next(iter(pythons))
        return replace(self, build=build, python=(str(pythons[build]),))

    def missing(self, pythons: Mapping[Build, Path]) -> str | None:
        """The reason why it cannot be measured here; None if it can."""
        if self.beside and len(pythons) < len(get_args(Build)):
            return f"only one build of pubsubd is installed, and {self.beside} has it"
        for package in self.needs:
            if importlib.util.find_spec(package) is None:
                return f"the Python package {package} is not installed"
        if self.binary is not None and self.binary[1]() is None:
            return f"{self.binary[0]} is not installed"
        return None

    def does(self, workload: Workload) -> bool:
        return (
            workload.kind in self.kinds
            and workload.group in self.groups
            and (self.confirms or not workload.waiting)
            and (self.filters or workload.group != "idle sessions")
        )


def _journaled(fsync: str | None) -> Contestant:
    about = {
        None: "no data on disk",
        "off": "its brokers with a journal that is written and never synced",
        "interval": "its brokers with a journal that is synced every 50 ms",
        "always": "its brokers with a journal that is synced before any answer or delivery",
    }[fsync]
    return Contestant(
        name=f"pubsubd-{fsync}" if fsync is not None else NOT_DURABLE,
        about=f"pubsubd-receipts, {about}",
        client="pubsubd",
        servers=partial(PubsubdServers, fsync=fsync),
        build="compiled",
        mode="receipts",
        against=NOT_DURABLE,
        groups=_DURABLE,
    )


def _interpreted(compiled: Contestant) -> Contestant:
    return replace(
        compiled,
        name=f"{compiled.name}{SUFFIX}",
        about=f"the sources of {compiled.name}, not compiled",
        build="interpreted",
        beside=compiled.name,
        against=compiled.name,
        groups=compiled.groups & _BUILT_TWICE,
    )


_NATS: Final = ("nats-server", nats_server)
_REDIS: Final = ("redis-server", redis_server)

_FAST: Final = Contestant(
    name=OURS,
    quick=True,
    about="two brokers; `send` and `flush`, read with `batches()`",
    client="pubsubd",
    servers=PubsubdServers,
    build="compiled",
)

_BULK: Final = Contestant(
    name="pubsubd-bulk",
    quick=True,
    about="two brokers; `publish_many` of 256, sixteen of them under way "
    "(`send` and `flush` where topics change)",
    client="pubsubd",
    servers=PubsubdServers,
    build="compiled",
    mode="bulk",
    groups=_STREAMED,
)

CONTESTANTS: Final = (
    _FAST,
    _interpreted(_FAST),
    _BULK,
    _interpreted(_BULK),
    Contestant(
        name="pubsubd-receipts",
        quick=True,
        about="two brokers; `publish_many` of 256, the next when all are accepted "
        "(`send` and `flush` by 256 where topics change)",
        client="pubsubd",
        servers=PubsubdServers,
        build="compiled",
        mode="receipts",
        groups=_STREAMED,
    ),
    Contestant(
        name="nats-core",
        quick=True,
        about="one nats-server; nats-py `publish`, `flush` at the end, read by callback; no message is kept "
        "for a reader that is away; nats-py's pending limits off, the server's raised to 1 GiB",
        client="nats_core",
        servers=NatsServers,
        kinds=_FLEETING,
        confirms=False,
        needs=("nats",),
        binary=_NATS,
    ),
    Contestant(
        name="jetstream",
        quick=True,
        about="one nats-server, stream in memory; nats-py `publish_async`, 4,000 unconfirmed at the most, "
        "read by an ordered consumer's callback",
        client="jetstream",
        servers=partial(NatsServers, jetstream=True),
        kinds=_RETAINING,
        needs=("nats",),
        binary=_NATS,
    ),
    Contestant(
        name="jetstream-receipts",
        about="the same, every `publish` awaited before the next",
        client="jetstream",
        servers=partial(NatsServers, jetstream=True),
        mode="receipts",
        against="pubsubd-receipts",
        groups=_STREAMED,
        needs=("nats",),
        binary=_NATS,
    ),
    _journaled(None),
    _journaled("off"),
    _journaled("interval"),
    _journaled("always"),
    Contestant(
        name="jetstream-always",
        about="jetstream with its stream in files and `sync_interval: always`",
        client="jetstream",
        servers=partial(NatsServers, jetstream=True, durable=True),
        against="pubsubd-always",
        groups=_DURABLE,
        needs=("nats",),
        binary=_NATS,
    ),
    Contestant(
        name="redis-always",
        about="redis-streams with `appendonly yes` and `appendfsync always`",
        client="redis_streams",
        servers=partial(RedisServers, durable=True),
        against="pubsubd-always",
        groups=_DURABLE,
        needs=("redis", "hiredis"),
        binary=_REDIS,
    ),
    Contestant(
        name="redis-streams",
        quick=True,
        about="one redis-server, no persistence, one stream; redis-py with hiredis: blocking pipelines of "
        "500 XADD, each answered before the next; XREAD COUNT 1000 BLOCK on asyncio",
        client="redis_streams",
        servers=RedisServers,
        kinds=_RETAINING,
        needs=("redis", "hiredis"),
        binary=_REDIS,
    ),
    Contestant(
        name="redis-pubsub",
        about="one redis-server; redis-py with hiredis: blocking pipelines of 500 PUBLISH; "
        "PSUBSCRIBE read by `listen()` on asyncio; no message is kept for a reader that is away",
        client="redis_pubsub",
        servers=RedisServers,
        kinds=_FLEETING,
        confirms=False,
        needs=("redis", "hiredis"),
        binary=_REDIS,
    ),
    Contestant(
        name="floor",
        quick=True,
        about="no broker: the same bytes through two relays that only copy them, see bench/floor",
        client="floor",
        servers=FloorServers,
        kinds=frozenset({"throughput", "latency", "memory"}),
        confirms=False,
        filters=False,
    ),
    Contestant(
        name="socket",
        quick=True,
        about="no broker and no relay: one Unix socket between the two processes; its latency is the "
        "cost of waking up a process here",
        client="floor",
        reader="SocketReader",
        servers=NoServers,
        kinds=frozenset({"latency"}),
        confirms=False,
    ),
    Contestant(
        name="life-file",
        quick=True,
        about="one stream, and single brokers, that record how far they accepted or do not, by turns; interpreted, "
        "because the record is taken out by a patch",
        client="pubsubd",
        servers=NoServers,
        build="interpreted",
        against="life-file",
        kinds=_OURS_ALONE,
    ),
)

OUR_MODES: Final = tuple(each.name for each in CONTESTANTS if each.client == "pubsubd")

COMPARED: Final = tuple(
    each.name for each in CONTESTANTS if each.client != "pubsubd" or each.beside
)
"""The contestants whose ratio to ours is shown."""

BY_NAME: Final = {contestant.name: contestant for contestant in CONTESTANTS}
