"""A broker that does not record how far it has accepted: the other side of `bench.witness`.

Takes the options of `pubsubd`.
"""

from __future__ import annotations

from pubsubd_broker.journal.life_place import Counter
from pubsubd_cli.main import main


def _nothing(counter: Counter, following: int) -> None:
    """Stands in for `Counter.store`."""


if __name__ == "__main__":
    setattr(Counter, "store", _nothing)  # noqa: B010  # mypy: a method is replaced on purpose
    main()
