"""Origin of a setting's value: a flag, a variable, the file, or the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SettingSource = Literal["flag", "environment", "file", "default"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Kind of place that a value came from, and its name there."""

    source: SettingSource
    name: str

    def __str__(self) -> str:
        return self.name
