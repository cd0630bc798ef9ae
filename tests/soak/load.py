"""The load of a soak: publishers, readers and passers-by on each node, as real processes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final

from tests.faults.application import Settings
from tests.faults.plan import MARK
from tests.faults.processes import Process
from tests.integration.cluster import Cluster
from tests.integration.waiting import wait_until
from tests.soak.application import PATIENCE_S, read_accounts, topic_of
from tests.soak.ledger import LANES, Account, Broken, Ledger, audit
from tests.soak.plan import APPLICATIONS, Plan

SIZE: Final = 100
PASSING_AT_ONCE: Final = 2


class Load:
    """The applications. `processes`: by name."""

    def __init__(self, plan: Plan, folder: Path, cluster: Cluster) -> None:
        self.plan = plan
        self.folder = folder
        self._cluster = cluster
        self.processes = {name: self._process(name) for name in APPLICATIONS}

    def start(self) -> None:
        """Start the readers first: they are owed all that is published after their first step."""
        for process in self.readers:
            process.start()
        wait_until(
            lambda: all(Path(process.settings.log).exists() for process in self.readers),
            PATIENCE_S,
            "the first step of every reader",
        )
        for process in self.processes.values():
            if not process.alive:
                process.start()

    @property
    def readers(self) -> list[Process]:
        return [
            process
            for process in self.processes.values()
            if process.settings.role == "reader" and not process.settings.name.startswith("passers")
        ]

    @property
    def passers(self) -> list[Process]:
        return [p for p in self.processes.values() if p.settings.name.startswith("passers")]

    @property
    def publishers(self) -> list[Process]:
        return [p for p in self.processes.values() if p.settings.role == "publisher"]

    def heal(self) -> None:
        """Let stopped processes go on, and start killed ones again."""
        for process in self.processes.values():
            process.go_on()
            if not process.alive:
                process.start()

    def publish_no_more(self) -> None:
        """Let publishers and passers-by end what they have begun, and readers hear of it."""
        for process in (*self.publishers, *self.passers):
            process.peace()
        for process in (*self.publishers, *self.passers):
            process.ended(PATIENCE_S)
        for process in self.readers:
            process.peace()

    def raise_if_failed(self) -> None:
        for process in self.processes.values():
            process.raise_if_failed()

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()

    def audited(self, counts: Counter[str]) -> list[str]:
        """Violations of the applications that have ended, in words. Adds to `counts`."""
        violations: list[str] = []
        accounts: list[Account] = []
        for process in self.publishers:
            for life in range(process.lives):
                accounts += read_accounts(process.settings, life)
        counts["accepted"] = sum(account.accepted for account in accounts)
        counts["lives of publishers"] = sum(p.lives for p in self.publishers)
        counts["lives of readers"] = sum(p.lives for p in self.readers)
        counts["lives of passers-by"] = sum(p.lives for p in self.passers)
        for process in self.readers:
            ledger = ledger_of(process)
            lanes = "x" if process.settings.name.startswith("lane") else "".join(LANES)
            try:
                audit(ledger, lanes, accounts)
            except Broken as broken:
                violations.append(f"{process.settings.name}: {broken}")
            for stream in ledger.streams.values():
                counts["read"] += stream.got
                counts["missed and told"] += stream.missed
                counts["notices"] += stream.notices
        for process in self.processes.values():
            said = process.errors.read_text()
            if said:
                violations.append(f"{process.settings.name} said {said[-2000:]}")
        return violations

    def _process(self, name: str) -> Process:
        kind, _, node = name.rpartition("-")
        if not kind:
            kind, node = "publisher", name[-1]
        settings = Settings(
            role="publisher" if kind == "publisher" else "reader",
            name=name,
            node=node,
            socket=self._cluster[node].socket,
            log=str(self.folder / name),
            seed=self.plan.seed,
            sizes=(SIZE,),
            window=PASSING_AT_ONCE,
            keeps="name" if kind == "named" else "position",
            patterns=(topic_of("*", "x"), MARK) if kind == "lane" else (">",),
            pause_s=1.0 if kind == "slow" else 0.0,
            every=500,
        )
        passing = kind == "passers"
        return Process(
            settings, module="tests.soak.passers" if passing else "tests.soak.application"
        )


def ledger_of(process: Process) -> Ledger:
    return Ledger.load(json.loads(Path(process.settings.log).read_text())["ledger"])
