"""A run of the command: turns every error into at most one line, or a group's help, and an exit code."""

from __future__ import annotations

from pubsubd_cli import standard_streams
from pubsubd_cli.exit_codes import DONE, FAILED, INTERRUPTED, USAGE, CommandError, Interrupted
from pubsubd_cli.standard_streams import OutputFailed, complain


def run(arguments: list[str] | None = None) -> int:
    """Run one command. Returns its exit code; an error is one line on standard error."""
    try:
        return _run(arguments)
    except CommandError as error:
        complain(str(error))
        return error.code
    except OutputFailed as error:
        if error.unread:
            # The reader of the output ended, as `head` does: success.
            return DONE
        complain(str(error))
        return FAILED
    except Interrupted:
        return INTERRUPTED


def _run(arguments: list[str] | None) -> int:
    import click

    from pubsubd_cli.group import pubsubd

    try:
        code = pubsubd.main(arguments, prog_name="pubsubd", standalone_mode=False)
    except click.UsageError as error:
        # click raises it since 8.2 for a group without its command, as `pubsubd config`. Its message is the help.
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            standard_streams.instruct(error.format_message())
            return USAGE
        path = error.ctx.command_path if error.ctx is not None else "pubsubd"
        text = f"{error.format_message().rstrip('.')}; see {path} --help"
        raise CommandError(text, USAGE) from error
    except click.ClickException as error:
        raise CommandError(error.format_message(), error.exit_code) from error
    except click.Abort:
        raise Interrupted from None
    standard_streams.finish()
    return code if isinstance(code, int) else DONE
