"""Entry point of the command `pubsubd`. It sets signal handlers first, because the other imports are slow."""

from __future__ import annotations

import gc
import sys

from pubsubd_cli import signals
from pubsubd_cli.exit_codes import DONE, INTERRUPTED


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["start"]:
        # A broker that ends by a signal before it has accepted anything has done its job: exit code 0.
        signals.end_at_once(DONE)
        signals.outlive_hangup()
    else:
        signals.end_at_once(INTERRUPTED)

    from pubsubd_cli import standard_streams

    standard_streams.guard()

    from pubsubd_cli.run import run

    code = run(arguments)
    signals.ignore()
    # The process ends: no need to look for garbage among all that it has loaded.
    gc.freeze()
    standard_streams.abandon()
    sys.exit(code)
