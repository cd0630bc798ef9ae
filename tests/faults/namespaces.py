"""Nodes in network namespaces of their own, each with a cable to one switch. Needs root, `ip`, `nft`.

    with Network(["a", "b"]) as network:
        network.unplug("b")        # neither end of a connection gets through, in either direction
        network.mute("a", "b")     # a's packets to b are dropped, b's packets to a arrive

Nothing outside of these namespaces changes, and no packet leaves them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final, Self

_COMMAND_TIMEOUT_S: Final = 10.0
TABLE: Final = "inet pubsubd_faults"


def missing() -> str | None:
    """The reason why a network cannot be made here; None if it can."""
    for command in ("ip", "nft"):
        if shutil.which(command) is None:
            return f"`{command}` is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Network(["a"]) as network:
            network.mute("a", "a")
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.strip()}"
    return None


class Network:
    """Exists from `with` to its end. Its names are unique, so that several networks can exist at once."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._tag = f"pubsubd-{secrets.token_hex(4)}"
        self._switch = f"{self._tag}-switch"
        self._nodes = list(nodes)
        self._made: list[str] = []

    def address(self, node: str) -> str:
        return f"10.77.0.{self._nodes.index(node) + 1}"

    def prefix(self, node: str) -> tuple[str, ...]:
        """The command that runs another one in the node's namespace, as the same process."""
        return "ip", "netns", "exec", self._namespace(node)

    def unplug(self, node: str) -> None:
        """Pull the cable: the node itself notices, the others do not."""
        _run("ip", "-n", self._switch, "link", "set", f"to-{node}", "down")

    def plug(self, node: str) -> None:
        _run("ip", "-n", self._switch, "link", "set", f"to-{node}", "up")

    def mute(self, node: str, toward: str) -> None:
        """Drop all packets from `node` to `toward`, and none in the other direction."""
        rule = f"add rule {TABLE} out ip daddr {self.address(toward)} drop"
        _run(*self.prefix(node), "nft", rule)

    def unmute(self, node: str) -> None:
        _run(*self.prefix(node), "nft", f"flush chain {TABLE} out")

    def __enter__(self) -> Self:
        try:
            self._make(self._switch)
            _run("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
            _run("ip", "-n", self._switch, "link", "set", "bridge", "up")
            for node in self._nodes:
                self._connect(node)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _namespace(self, node: str) -> str:
        return f"{self._tag}-{node}"

    def _make(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        self._made.append(namespace)

    def _connect(self, node: str) -> None:
        own, switch, port = self._namespace(node), self._switch, f"to-{node}"
        self._make(own)
        cable = ["link", "add", port, "type", "veth", "peer", "name", "cable", "netns", own]
        _run("ip", "-n", switch, *cable)
        _run("ip", "-n", switch, "link", "set", port, "master", "bridge", "up")
        _run("ip", "-n", own, "address", "add", f"{self.address(node)}/24", "dev", "cable")
        _run("ip", "-n", own, "link", "set", "cable", "up")
        _run("ip", "-n", own, "link", "set", "lo", "up")
        chain = f"add chain {TABLE} out {{ type filter hook output priority 0; }}"
        _run(*self.prefix(node), "nft", f"add table {TABLE}; {chain}")

    def _remove(self) -> None:
        with contextlib.ExitStack() as stack:
            for namespace in self._made:
                # Interfaces and rules of a namespace go with it.
                stack.callback(_run, "ip", "netns", "delete", namespace)
            self._made = []


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S)
