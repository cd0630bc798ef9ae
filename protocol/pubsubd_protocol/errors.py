"""The root of all errors of pubsubd, and the errors that both ends of a connection share.

`PubSubError`
├── `ProtocolError`      the other end broke the protocol
├── `ConnectionRefused`  the other end refused the connection; says why
├── `InvalidTopic`       the caller's topic or pattern is invalid
├── `InvalidPosition`    the caller's position is invalid
└── `MessageTooLarge`    the caller's message or batch is over a limit
"""

from __future__ import annotations

from typing import Any


class PubSubError(Exception):
    """Root of all errors of pubsubd. `retriable`: whether trying again can help.

    Copies and pickles keep the text, the figures and the notes.
    """

    retriable: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ calls the class with the text alone; most of these classes take figures.
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[PubSubError], args: tuple[object, ...]) -> PubSubError:
    return kind.__new__(kind, *args)


class ProtocolError(PubSubError):
    """The other end sent what the protocol does not allow; the connection ends.

    `kind` is one of a few constant words (a metric label). `detail` names the broken rule, with figures.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class ConnectionRefused(PubSubError):
    """The other end ended the connection on purpose. `code` is a constant word, `detail` a sentence.

    `retriable` if the reason may pass with time, as with the code `draining`.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail
        self.retriable = code in _PASSING


# Refusals that may pass with time. The others last until a user changes a setting or the request.
_PASSING = frozenset(
    {
        "draining",
        "handshake_timeout",
        "idle",
        "name_in_use",
        "recovering",
        "replaced",
        "too_many_commands",
        "too_many_connections",
        "too_many_consumers",
        "too_many_of_one",
        "too_many_producers",
        "too_many_sessions",
        "too_much_unfinished",
        "too_much_unsent",
    }
)


class InvalidTopic(PubSubError, ValueError):
    """A topic or pattern breaks a rule; the text names the rule."""


class InvalidPosition(PubSubError, ValueError):
    """A stored position is malformed; the text names the place and the value found there."""


class MessageTooLarge(PubSubError, ValueError):
    """A message or batch is over a limit. `size` and `limit` are in `unit`: "bytes" if nothing else is named."""

    def __init__(self, what: str, size: int, limit: int, unit: str = "bytes") -> None:
        super().__init__(
            f"{what} is {size} {unit}, the limit is {limit}: split it or raise the limit"
        )
        self.size = size
        self.limit = limit
        self.unit = unit
