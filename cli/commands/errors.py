"""How a command ends: with an exit code, and one line of text instead of a traceback."""

import errno
import io
import os
import sys
import traceback
from typing import IO, Any, Final

import click

from imagetools.paths import printable

LOGGING_COMMANDS: Final = {"encoder", "search", "matcher", "grouping", "bridge"}
"""Commands whose standard error output is their log."""


class CommandFailed(click.ClickException):
    """A command that ends with this exit code, and one line if there is something to say."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it on the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        if self.message:
            super().show(file)


class CommandGroup(click.Group):
    """A group whose commands end with one line and the exit code that streams.exit_codes gives."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parse the command line, which may print the help."""
        try:
            return super().make_context(*args, **more)
        except OSError as exc:
            raise _failed(exc, "") from exc

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what it raises into a CommandFailed."""
        try:
            return super().invoke(ctx)
        except click.ClickException as exc:
            # a word of the command line may hold a newline; help that comes as an error has lines of its own
            one_line = isinstance(exc, click.UsageError) and not isinstance(exc, click.exceptions.NoArgsIsHelpError)
            exc.message = printable(exc.message, keep="" if one_line else "\n")  # type: ignore[misc]
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as exc:
            raise _failed(exc, ctx.invoked_subcommand or "") from exc


def _failed(exc: BaseException, command: str) -> CommandFailed:
    from imagetools.errors import RegistryAway
    from streams.exit_codes import EXIT_REFUSED, exit_code, is_fault
    from streams.kafka.errors import reason_of

    code = exit_code(exc)
    if isinstance(exc, KeyboardInterrupt):
        return CommandFailed("", code)
    if isinstance(exc, ImportError) and ("libGL" in str(exc) or "libgthread" in str(exc)):
        missing = f"OpenCV needs a system library: {exc}. On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
        return CommandFailed(missing, EXIT_REFUSED)
    if isinstance(exc, RegistryAway):
        return CommandFailed(str(exc), EXIT_REFUSED)
    if isinstance(exc, OSError) and _output_is_full(exc):
        return CommandFailed(f"the standard output cannot be written: {exc.strerror}", code)
    if not is_fault(exc):
        return CommandFailed(printable(reason_of(exc), keep="\n"), code)
    return CommandFailed(_describe_fault(exc, command), code)


def _output_is_full(exc: OSError) -> bool:
    """Whether the disk behind the standard output is full; then let what is buffered go, which fails at exit too."""
    if exc.errno not in (errno.ENOSPC, errno.EDQUOT) or exc.filename is not None:
        return False
    try:
        # the error does not say which file was written: a further byte does
        os.write(sys.stdout.fileno(), b"\n")
    except io.UnsupportedOperation:
        return False
    except OSError:
        with open(os.devnull, "wb") as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())
        return True
    return False


def _describe_fault(exc: BaseException, command: str) -> str:
    """One line about an error that nobody foresaw; its traceback goes to the log."""
    from imagetools.process_logs import save_log

    text = "".join(traceback.format_exception(exc))
    if command in LOGGING_COMMANDS:
        click.echo(text, err=True)
        place = "above"
    else:
        place = f"in {save_log(text, f'{command}.log')}"
    return f"{type(exc).__name__}: {exc}. This is a fault of imagetools; its traceback is {place}"
