"""Strangers play a script to a real node; an honest publisher and an honest session must not notice.

The strangers connect as clients and as peers, and answer when the node dials. See `tests.fuzz.scripts`.
"""

from __future__ import annotations

from tests.fuzz.scripts import Flag, parse
from tests.fuzz.targets.site import Site


def check(data: bytes) -> None:
    """Raises only for a fault."""
    flags, steps = parse(data)
    site = Site(flags)
    # A node that recovers its stream from peers does not serve clients yet.
    earlier = None if Flag.RECOVERS in flags else site.session()
    for step in steps:
        site.perform(step)
    site.still_serves(earlier)
