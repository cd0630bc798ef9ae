"""Forms in which values of settings are written: addresses, names, paths, counts, sizes, durations."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from pubsubd_broker.core.access.permissions import TopicRule, TopicRules
from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.settings.sizes import format_duration, format_size, parse_duration, parse_size
from pubsubd_protocol.addresses import Address, format_address, parse_address
from pubsubd_protocol.positions import MAX_NODE_NAME, is_node_name

MAX_SOCKET_PATH_BYTES = 107
"""Bytes that a `sockaddr_un` holds on Linux, without the closing zero."""

FRAME_OVERHEAD_BYTES = 1024
"""Bytes of a frame besides one message's payload: header and topic, rounded up."""


@dataclass(frozen=True, slots=True)
class Form:
    """Form of values of one kind. `read` takes text and raises `ValueError`; `show` is its inverse."""

    metavar: str
    allowed: str
    read: Callable[[str], Any]
    show: Callable[[Any], str | int | float]
    toml: tuple[type, ...] = (str,)
    is_path: bool = False
    """Whether a value is a path: a relative one stands in the folder in which the broker was started."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name other than `localhost` counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def node_name_of(host: str) -> str:
    """The host's name, cut to what a node may be called; `node` if nothing is left of it."""
    cut = re.sub(r"[^A-Za-z0-9._-]", "-", host)[:MAX_NODE_NAME].strip("._-")
    return cut if is_node_name(cut) else "node"


def _read_node(text: str) -> str:
    if not is_node_name(text):
        raise ValueError(f"{text!r} is not a node name")
    return text


def expanded_path(text: str) -> str:
    """`~` and `~user` at the beginning are a user's folder, as a shell reads them where nothing is quoted.

    Raises `ValueError` for an unknown user: a folder called `~user` is never what was meant.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(
            f"{text!r} names the home of an unknown user; a name with ~ is written ./{text}"
        )
    return path


def _read_path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is not a path")
    return expanded_path(text)


def _read_socket(text: str) -> str:
    path = _read_path(text)
    length = len(path.encode(errors="surrogateescape"))
    if length > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"{path!r} has {length} bytes")
    return path


def _read_peer(text: str) -> Address:
    return parse_address(text, lowest_port=1)


def _count(text: str) -> int:
    if re.fullmatch(r"[0-9][0-9_]{0,18}", text) is None:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text.replace("_", ""))


def _plain(value: Any) -> Any:
    return value


Number = TypeVar("Number", int, float)


def _bounded(
    read: Callable[[str], Number], lowest: Number, highest: Number
) -> Callable[[str], Number]:
    def read_bounded(text: str) -> Number:
        value = read(text)
        if not lowest <= value <= highest:
            raise ValueError(f"{text} is out of range")
        return value

    return read_bounded


def choice(*words: str) -> Form:
    """Form of one word out of a few, in any case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"{text!r} is not one of them")
        return text.lower()

    return Form("|".join(words), " or ".join(words), read, _plain)


YES: Final = frozenset({"1", "true", "yes", "on"})
NO: Final = frozenset({"0", "false", "no", "off"})


def read_switch(text: str) -> bool:
    """Raises `ValueError` for a word that is neither."""
    word = text.strip().lower()
    if word not in YES | NO:
        raise ValueError(f"{text!r} is neither yes nor no")
    return word in YES


def size(lowest: int, highest: int = 1 << 46) -> Form:
    """A number of bytes."""
    most = f" to {format_size(highest)}" if highest < 1 << 46 else " or more"
    return Form(
        "SIZE",
        f"a size of {format_size(lowest)}{most}, as 1000000, 512KiB, 64MiB or 1GiB",
        _bounded(parse_size, lowest, highest),
        format_size,
        (str, int),
    )


def duration(lowest: float) -> Form:
    """A number of seconds, up to ten years."""
    return Form(
        "DURATION",
        f"a duration of {format_duration(lowest)} or more, as 250ms, 2s, 5m, 24h or seconds",
        _bounded(parse_duration, lowest, 10 * 365 * 86_400.0),
        format_duration,
        (str, int, float),
    )


def nanoseconds(lowest: float) -> Form:
    """A duration of at least `lowest` seconds, up to ten years, held in nanoseconds."""
    seconds = duration(lowest)
    return replace(
        seconds,
        read=lambda text: round(seconds.read(text) * SECOND_NS),
        show=lambda ns: seconds.show(ns / SECOND_NS),
    )


def count(highest: int = 10**9) -> Form:
    """Form of a count: at least one."""
    return Form(
        "N", f"a whole number from 1 to {highest}", _bounded(_count, 1, highest), _plain, (int,)
    )


def _read_mode(text: str) -> int:
    mode = int(text, 8) if re.fullmatch(r"[0-7]{3,4}", text) else -1
    if mode not in SOCKET_MODES:
        raise ValueError(f"{text!r} is not one of them")
    return mode


def _read_rule(text: str) -> TopicRule:
    """Words of the form `kind:value`, any number of each kind. A topic may hold a colon, but no space."""
    found: dict[str, list[str]] = {"uid": [], "gid": [], "publish": [], "subscribe": []}
    for word in text.split():
        kind, colon, value = word.partition(":")
        if not colon or kind not in found:
            raise ValueError(f"{word!r} is not a part of a rule")
        found[kind].append(value)
    if not found["publish"] and not found["subscribe"]:
        raise ValueError(f"{text!r} allows nothing")
    rule = TopicRule(
        frozenset(ID.read(uid) for uid in found["uid"]),
        frozenset(ID.read(gid) for gid in found["gid"]),
        tuple(found["publish"]),
        tuple(found["subscribe"]),
    )
    TopicRules((rule,))
    return rule


def _show_rule(rule: TopicRule) -> str:
    kinds = {
        "uid": sorted(rule.uids),
        "gid": sorted(rule.gids),
        "publish": rule.publish,
        "subscribe": rule.subscribe,
    }
    return " ".join(f"{kind}:{value}" for kind, values in kinds.items() for value in values)


SOCKET_MODES: Final = (0o600, 0o660, 0o666)
COUNT: Final = count()
ID: Final = Form(
    "ID", "a number from 0 to 4294967294", _bounded(_count, 0, 2**32 - 2), _plain, (int,)
)
MODE: Final = Form(
    "MODE",
    "0600 (its own user), 0660 (and its group) or 0666 (all users)",
    _read_mode,
    lambda mode: f"{mode:04o}",
)
LISTEN: Final = Form(
    "HOST:PORT",
    "HOST:PORT with a port of 0 to 65535 (0 picks a free one), IPv6 as [::1]:7420",
    parse_address,
    format_address,
)
PEER: Final = Form(
    "HOST:PORT",
    "HOST:PORT with a port of 1 to 65535, IPv6 as [::1]:7420",
    _read_peer,
    format_address,
)
SWITCH: Final = Form("yes|no", "yes or no", read_switch, _plain, (bool,))
NODE: Final = Form(
    "NAME",
    f"1 to {MAX_NODE_NAME} of A-Z a-z 0-9 . _ -, beginning and ending with a letter or digit",
    _read_node,
    _plain,
)
FILE: Final = Form("FILE", "a file", _read_path, _plain, is_path=True)
RULE: Final = Form(
    "RULE",
    "uid:ID gid:ID publish:PATTERN subscribe:PATTERN, each as often as needed; neither uid nor gid: all users",
    _read_rule,
    _show_rule,
)
FOLDER: Final = Form(
    "DIR", "a folder; the broker makes a missing one", _read_path, _plain, is_path=True
)
SOCKET: Final = Form(
    "PATH",
    f"a path of 1 to {MAX_SOCKET_PATH_BYTES} bytes, the working folder included if it is relative",
    _read_socket,
    _plain,
    is_path=True,
)
