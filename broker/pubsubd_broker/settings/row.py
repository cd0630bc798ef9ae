"""Row of the table of settings, and of the table of bounds in docs/bounds.md."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pubsubd_broker.settings.forms import Form
from pubsubd_broker.settings.values import Settings

ENVIRONMENT_PREFIX = "PUBSUBD_"


@dataclass(frozen=True, slots=True)
class Bound:
    """Bound in docs/bounds.md. Texts are Markdown."""

    at_it: str
    """Fate of the first item beyond the bound."""
    way_back: str
    """Way in which ordinary life comes away from the bound."""
    shown_by: tuple[str, ...]
    """Metrics that show it, without their prefix."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Row of the table. `name` is the option and the TOML key.

    `field`: of `Settings`. Dots lead into its parts: `core.ring_bytes` is a field of the core's `Config`.
    """

    name: str
    field: str
    form: Form
    help: str
    repeatable: bool = False
    bound: Bound | None = None
    """Row of docs/bounds.md; None if the setting bounds nothing."""
    default: Any = None
    """Default in the place of the field's own."""
    optional: bool = False
    """Whether the value may be none: `false` in the file."""
    switch_off: str | None = None
    """Meaning of `--no-NAME`; None if the setting cannot be switched off."""

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace("-", "_").upper()

    @property
    def off_variable(self) -> str:
        return f"{ENVIRONMENT_PREFIX}NO_{self.name.replace('-', '_').upper()}"

    @property
    def may_be_off(self) -> bool:
        return self.optional or self.switch_off is not None

    @property
    def allowed(self) -> str:
        return self.form.allowed

    def value(self, settings: Settings) -> Any:
        """Value in force, as the field holds it."""
        return attrgetter(self.field)(settings)

    def show(self, value: Any) -> Any:
        """`value` as TOML has it: `false` for a setting that is off, a list for a repeatable one."""
        if self.repeatable:
            return [self.form.show(each) for each in value]
        if value is None:
            return False
        return self.form.show(value)


def bound(
    name: str,
    field: str,
    form: Form,
    help: str,  # noqa: A002
    *,
    at_it: str,
    way_back: str,
    shown_by: tuple[str, ...],
    default: Any = None,
) -> Setting:
    """Row of a setting that bounds something."""
    return Setting(name, field, form, help, bound=Bound(at_it, way_back, shown_by), default=default)
