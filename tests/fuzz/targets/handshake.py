"""Strangers do to a real node what a script says; an honest publisher and an honest session must not notice.

They connect as clients and as peers, and are what answers when the node dials. See `tests.fuzz.scripts`.
"""

from __future__ import annotations

from tests.fuzz.scripts import Flag, parse
from tests.fuzz.targets.site import Site


def check(data: bytes) -> None:
    """Raises only if something is wrong."""
    flags, steps = parse(data)
    site = Site(flags)
    # One that recalls its stream serves nobody yet.
    earlier = None if Flag.RECALLS in flags else site.session()
    for step in steps:
        site.perform(step)
    site.still_serves(earlier)
