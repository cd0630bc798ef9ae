"""The command `pubsubd`: turns every error and signal into at most one line, and an exit code.

Imports little by itself: signals and standard streams are taken care of before the first slow import.
"""

from __future__ import annotations

import sys

from pubsubd_cli import signals, standard_streams
from pubsubd_cli.exit_codes import DONE, FAILED, INTERRUPTED, USAGE, CommandError, Interrupted
from pubsubd_cli.standard_streams import OutputFailed, complain


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    standard_streams.guard()
    signals.install()
    code = run(arguments)
    standard_streams.abandon()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run one command. Returns its exit code; errors go to standard error, a line each."""
    try:
        return _run(arguments)
    except CommandError as error:
        complain(str(error))
        return error.code
    except OutputFailed as error:
        if error.unread:
            # A reader that is gone has what it wanted.
            return DONE
        complain(str(error))
        return FAILED
    except Interrupted:
        given = sys.argv[1:] if arguments is None else arguments
        # A broker that is told to end before it serves has nothing to finish, and has done as it was told.
        return DONE if given[:1] == ["start"] else INTERRUPTED


def _run(arguments: list[str] | None) -> int:
    import click

    from pubsubd_cli.group import pubsubd

    try:
        code = pubsubd.main(arguments, prog_name="pubsubd", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "pubsubd"
        text = f"{error.format_message().rstrip('.')}; see {path} --help"
        raise CommandError(text, USAGE) from error
    except click.ClickException as error:
        raise CommandError(error.format_message(), error.exit_code) from error
    except click.Abort:
        raise Interrupted from None
    standard_streams.finish()
    return code if isinstance(code, int) else DONE
