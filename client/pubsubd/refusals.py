"""A broker's refusals of a session, in the SDK's words. Pure."""

from __future__ import annotations

from typing import Final

from pubsubd.errors import InvalidTopic, NameInUse
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError, PubSubError

NAME_LOST: Final = ("name_in_use", "name_lost", "replaced")
"""Codes by which a broker says that another connection holds the name, or took it meanwhile."""

MAX_VIOLATIONS: Final = 3
"""Protocol errors in a row, without an event between them, after which a session gives up."""


def is_name_lost(why: PubSubError) -> bool:
    """Whether another connection holds the session's name, or took it."""
    return isinstance(why, ConnectionRefused) and why.code in NAME_LOST


def is_final(why: PubSubError, *, opened: bool, stands_by: bool, violations: int) -> bool:
    """Whether `why` ends a session for good.

    - `opened`: the session has been open before.
    - `stands_by`: it waits for its name.
    - `violations`: protocol errors in a row, this one included.
    """
    if isinstance(why, ProtocolError):
        return not opened or violations >= MAX_VIOLATIONS
    return not stands_by and (is_name_lost(why) or not why.retriable)


def refusal_of(error: PubSubError, name: str | None) -> PubSubError:
    """The SDK's error for `error`, which ended the session `name`, or a change of its filter."""
    match error:
        case ConnectionRefused(code=code) if code in NAME_LOST and name:
            return NameInUse(name, error.detail)
        case ConnectionRefused(code="invalid_topic"):
            return InvalidTopic(error.detail)
    return error
