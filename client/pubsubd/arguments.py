"""Checks of arguments, made in the call that gets them.

A wrong argument that is found later would raise in a callback of the event loop. No caller gets that error, and it
harms all tasks that share the client.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import timedelta
from numbers import Real
from typing import Any

from pubsubd.codecs import Codec
from pubsubd.errors import InvalidArgument
from pubsubd_protocol.socket_path import default_socket_path

SHOWN = 40
"""Characters of a wrong value that an error shows."""


def seconds(name: str, value: object, *, above_zero: bool = False) -> float:
    """`value` as a number of seconds, finite and not below 0."""
    if isinstance(value, timedelta):
        raise InvalidArgument(
            f"{name} is a number of seconds, not a timedelta: pass {name}=value.total_seconds()"
        )
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidArgument(f"{name} is a number of seconds, not {shown(value)}")
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.inf
    if not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        least = "above 0" if above_zero else "0 or more"
        raise InvalidArgument(f"{name} is a finite number of seconds, {least}, not {shown(value)}")
    return number


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} is True or False, not {shown(value)}")
    return value


def text(name: str, value: object, longest: int | None = None) -> str:
    """`value` as a string of at most `longest` characters."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} is a string, not {shown(value)}")
    if longest is not None and len(value) > longest:
        raise InvalidArgument(f"{name} has {len(value)} characters, the limit is {longest}")
    if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
        raise InvalidArgument(f"{name} cannot be encoded as UTF-8: {shown(value)}")
    return value


def one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in words:
        raise InvalidArgument(f"{name} is {' or '.join(map(repr, words))}, not {shown(value)}")


def function(name: str, value: object) -> Callable[..., Any]:
    if not callable(value):
        raise InvalidArgument(f"{name} is a function to call, not {shown(value)}")
    return value


def function_or_none(name: str, value: object) -> Callable[..., Any] | None:
    return None if value is None else function(name, value)


def socket_path(given: str | os.PathLike[str] | None, environment: Mapping[str, str]) -> str:
    """The broker's socket as an absolute path, so that a later change of the working folder does not matter.

    `~` is the user's home folder, also in a variable. `..` stays, because behind a symbolic link it has its own meaning.
    """
    path: object
    if given is None:
        path = default_socket_path(environment, os.getuid())
    else:
        path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidArgument(f"socket is the path of a broker's socket, not {shown(given)}")
    path = os.path.expanduser(path)
    try:
        return os.path.join(os.getcwd(), path) if not os.path.isabs(path) else path
    except FileNotFoundError:
        raise InvalidArgument(
            f"socket {path!r} is relative, and the working folder is gone: give an absolute path"
        ) from None


def payloads(value: object) -> None:
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        raise InvalidArgument(
            f"payloads is a list or iterator, not a single {type(value).__name__}: use publish() for one payload"
        )
    if isinstance(value, Mapping):
        raise InvalidArgument(
            f"payloads is a list or iterator, not a {type(value).__name__}: use publish() for one payload, or pass its "
            "values()"
        )
    if not isinstance(value, (Iterable, AsyncIterable)):
        raise InvalidArgument(f"payloads is a list or iterator, not {shown(value)}")


def codec(value: object) -> Codec:
    if not isinstance(value, Codec):
        raise InvalidArgument(
            f"codec is a pubsubd.Codec, such as pubsubd.MSGPACK, pubsubd.JSON or pubsubd.RAW, not {shown(value)}"
        )
    return value


def shown(value: object) -> str:
    """The value and its type, for the text of an error."""
    try:
        written = repr(value)
    except Exception:
        written = "…"
    if len(written) > SHOWN:
        written = f"{written[:SHOWN]}…"
    return f"{written} ({type(value).__name__})"
