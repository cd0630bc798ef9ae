"""Writes docs/api.md anew: the public names of the SDK, from its signatures and docstrings. Run by `make docs`.

griffe reads the sources and imports nothing, so the page is the same on each machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import griffe

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = Path(__file__).parent / "api.md"

SECTIONS: Final = {
    "Connect, publish, subscribe": ("connect", "Client", "Subscription", "matches"),
    "Messages and receipts": ("Message", "Batch", "Receipt", "Receipts"),
    "Gaps and health": (
        *("CursorExpired", "Reason", "single_flight"),
        *("State", "NodeLost", "NodeBack"),
    ),
    "Codecs": ("Codec", "MSGPACK", "JSON", "RAW"),
    "Errors": (
        *("PubSubError", "BrokerUnavailable", "ConnectionRefused", "ProtocolError"),
        *("PublishRejected", "PublishUnknown", "MessageTooLarge", "NameInUse"),
        *("InvalidTopic", "InvalidPosition", "InvalidArgument", "EncodeError", "DecodeError"),
        *("ClientClosed", "WrongEventLoop", "AlreadyIterating", "ReentrantCall"),
    ),
    "Without an event loop": ("sync.connect", "sync.Client", "sync.Subscription"),
    "Version": ("__version__",),
}
"""Headings of the page, and the public names below each."""

FOR_THE_SDK: Final = {
    "Client": {"__init__", "forked"},
    "Message": {"__init__"},
    "Batch": {"__init__", "without", "reversed_messages"},
    "Receipts": {"__init__", "append"},
    "Subscription": {"__init__", "forked", "stop"},
    "sync.Client": {"__init__", "forked"},
    "sync.Subscription": {"__init__", "forked", "open"},
}
"""Methods that other modules of the SDK call, and no application."""

_INTRODUCTION: Final = """\
<!-- The docstrings of pubsubd, written by `make docs`. Change them there. -->

# API reference

The public names of `import pubsubd`. [The client library](application.md) explains them by example.

- Durations are seconds. Sizes are bytes.
- A wrong argument raises in the call that gets it.
- Every error that the SDK raises is a `PubSubError`.
- `Iterating[T]` in a signature is an asynchronous iterator of `T`. Its `aclose()` ends it, and leaves the subscription open.
- `Blocking[T]` in a signature is an iterator of `T`.
- `Stored` in a signature is a position, a dict `{node: [epoch, next offset]}`.
- `HealthEvent` in a signature is `NodeLost | NodeBack`.
"""
_WIDTH: Final = 88
"""A longer signature has a line for each parameter."""

_NAME: Final = re.compile(r"`(\w+)(?:\.(\w+))?`")
_EXAMPLE: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


class Reference:
    """The page about the package `pubsubd` below `root`."""

    def __init__(self, root: Path = ROOT) -> None:
        loaded = griffe.load(
            "pubsubd",
            search_paths=[root / "client", root / "protocol"],
            allow_inspection=False,
            resolve_aliases=True,
            resolve_external=True,
        )
        self._package: Final = loaded
        self.names: Final = [name for names in SECTIONS.values() for name in names]

    def page(self) -> str:
        return "\n".join([_INTRODUCTION, *self._contents(), *self._sections()])

    def members(self, cls: griffe.Class) -> list[griffe.Function | griffe.Attribute]:
        """Public methods, properties and attributes of a class, in the order of the source."""
        hidden = FOR_THE_SDK.get(public_name(cls), set())
        return [
            member
            for member in cls.members.values()
            if isinstance(member, (griffe.Function, griffe.Attribute))
            and not member.name.startswith("_")
            and member.name not in hidden
        ]

    def found(self, name: str) -> griffe.Object:
        """The object behind a public name."""
        # By its import: `pubsubd.single_flight` is a module, too.
        module, _, last = f"pubsubd.{name}".rpartition(".")
        path = self._package.modules_collection[module].imports[last]
        found = self._package.modules_collection[path]
        while isinstance(found, griffe.Alias):
            found = found.final_target
        assert isinstance(found, griffe.Object)
        return found

    def _contents(self) -> Iterator[str]:
        for title, names in SECTIONS.items():
            yield f"- {title}: {', '.join(self._link(name, name) for name in names)}"
        yield ""

    def _sections(self) -> Iterator[str]:
        for title, names in SECTIONS.items():
            yield f"## {title}\n"
            for name in names:
                yield f"### `{name}`\n"
                yield from self._described(name, self.found(name))

    def _described(self, name: str, found: griffe.Object) -> Iterator[str]:
        match found:
            case griffe.Class():
                yield from self._class(found)
            case griffe.Function():
                yield _code(_signature(found, f"pubsubd.{name}"))
                yield self._prose(found)
            case _:
                yield self._prose(found)

    def _class(self, cls: griffe.Class) -> Iterator[str]:
        initial = cls.members.get("__init__")
        if isinstance(initial, griffe.Function) and "__init__" not in FOR_THE_SDK.get(
            public_name(cls), ()
        ):
            yield _code(_signature(initial, f"pubsubd.{cls.name}", returns=False))
        if cls.bases:
            yield f"Base: {', '.join(self._linked(f'`{base}`') for base in cls.bases)}.\n"
        yield self._prose(cls)
        members = self.members(cls)
        fields = [member for member in members if isinstance(member, griffe.Attribute)]
        if fields:
            yield "\n".join(self._field(cls, field) for field in fields) + "\n"
        for member in members:
            if isinstance(member, griffe.Function):
                yield f"#### `{public_name(cls)}.{member.name}`\n"
                yield _code(_signature(member, member.name))
                yield self._prose(member, cls)

    def _field(self, cls: griffe.Class, field: griffe.Attribute) -> str:
        type_ = "" if _is_enum(cls) else f": {_type_of(cls, field)}"
        value = f" = {field.value}" if "class-attribute" in field.labels and field.value else ""
        shown = f"- `{field.name}{type_}{value}`"
        if not field.docstring:
            return shown
        text = self._prose(field, cls).strip()
        return (
            f"{shown}: " + "\n".join(f"  {line}" if line else "" for line in text.split("\n"))[2:]
        )

    def _prose(self, found: griffe.Object, cls: griffe.Class | None = None) -> str:
        """The docstring with links. `cls`: the class of which it describes a member."""
        if found.docstring is None:
            return ""
        return self._linked(found.docstring.value, cls) + "\n"

    def _linked(self, text: str, cls: griffe.Class | None = None) -> str:
        """`text` with a link on each public name and method outside of examples."""
        methods = (
            set() if cls is None else {each.name for each in self.members(cls) if each.is_function}
        )

        def linked(found: re.Match[str]) -> str:
            first, second = found.groups()
            if second is None and cls is not None and first in methods:
                return self._link(first, f"{public_name(cls)}.{first}")
            if first in self.names:
                return self._link(found[0][1:-1], found[0][1:-1] if second else first)
            return found[0]

        parts = _EXAMPLE.split(text)
        return "".join(part if at % 2 else _NAME.sub(linked, part) for at, part in enumerate(parts))

    def _link(self, shown: str, heading: str) -> str:
        return f"[`{shown}`](#{heading.lower().replace('.', '')})"


def public_name(cls: griffe.Class) -> str:
    """The name below `pubsubd` by which applications know the class."""
    return f"sync.{cls.name}" if cls.path.startswith("pubsubd.sync.") else cls.name


def _is_enum(cls: griffe.Class) -> bool:
    return any(str(base) == "StrEnum" for base in cls.bases)


def _type_of(cls: griffe.Class, field: griffe.Attribute) -> str:
    """The annotation of a field: its own, that of the parameter it is set from, or that of a base class."""
    if field.annotation is not None:
        return str(field.annotation)
    initial = cls.members.get("__init__")
    if isinstance(initial, griffe.Function):
        for parameter in initial.parameters:
            if parameter.name == str(field.value):
                return str(parameter.annotation)
    for base in cls.mro():
        inherited = base.members.get(field.name)
        if isinstance(inherited, griffe.Attribute) and inherited.annotation is not None:
            return str(inherited.annotation)
    raise ValueError(f"{cls.path}.{field.name} needs an annotation: docs/api.md shows its type")


def _signature(function: griffe.Function, name: str, *, returns: bool = True) -> str:
    """The signature without `self`, on one line or on a line for each parameter."""
    if function.overloads:
        return "\n".join(_signature(each, name) for each in function.overloads)
    parameters = list(_parameters(function))
    begin = "async " * ("async" in function.labels) + name
    end = f" -> {function.returns}" if returns and function.returns is not None else ""
    line = f"{begin}({', '.join(parameters)}){end}"
    if len(line) <= _WIDTH:
        return line
    return f"{begin}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){end}"


def _parameters(function: griffe.Function) -> Iterator[str]:
    starred = False
    for each in function.parameters:
        if each.name == "self":
            continue
        variadic = each.kind is griffe.ParameterKind.var_positional
        if each.kind is griffe.ParameterKind.keyword_only and not starred:
            starred = True
            yield "*"
        starred = starred or variadic
        default = "" if each.default is None or variadic else f" = {each.default}"
        yield f"{'*' * variadic}{each.name}: {each.annotation}{default}"


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(Reference().page())
