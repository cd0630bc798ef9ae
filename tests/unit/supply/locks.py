"""Made-up locks, in the form in which uv writes them."""

from __future__ import annotations

from collections.abc import Sequence

ONE, TWO = "1" * 64, "2" * 64
INDEX = '{ registry = "https://pypi.org/simple" }'


def made_lock(*packages: str, needed: Sequence[str] = (), more: str = "") -> str:
    """A lock of a project and `packages`, each given as `name version` with lines of its own behind that.

    `needed`: the dependencies of the project. `more`: stands behind the project's own lines.
    """
    project = '[[package]]\nname = "ours"\nsource = { editable = "." }\n'
    text = f"version = 1\n\n{project}dependencies = [{', '.join(needed)}]\n{more}\n"
    for each in packages:
        named, _, lines = each.partition("\n")
        name, version = named.split()
        text += f'\n[[package]]\nname = "{name}"\nversion = "{version}"\n'
        text += "" if "source =" in lines else f"source = {INDEX}\n"
        text += "" if "wheels =" in lines else f"{wheels(ONE)}\n"
        text += f"{lines}\n"
    return text


def wheels(*hashes: str) -> str:
    return f"wheels = [{', '.join(f'{{ hash = {chr(34)}sha256:{each}{chr(34)} }}' for each in hashes)}]"
