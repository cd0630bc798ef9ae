"""The build of these packages: compiled by mypyc, or interpreted from the same sources."""

from __future__ import annotations

from typing import Final

COMPILED: Final = not __file__.endswith(".py")
"""Whether this module, and so every module that is listed with it in pyproject.toml, is compiled."""

BUILD: Final = "compiled" if COMPILED else "interpreted"
"""The word for it in `pubsubd --version`, `build_info` and the status."""
