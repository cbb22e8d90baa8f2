"""A Click group that imports its commands lazily and reports all errors in one format.

Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 130 Ctrl-C, 143 SIGTERM before a stack has started.
"""

import codecs
import errno
import io
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from worker.cli import interrupts
from worker.cli.interrupts import INTERRUPTED
from worker.cli.lines import echo
from worker.errors import InvalidRequest, InvalidSettings, SnapshotError

FAILED, USAGE_ERROR, TERMINATED = 1, 2, 143

_OPTIONS = {
    "messageIds": "--message",
    "tags": "--tag",
    "channels": "--channel",
    "body": "options",
    "isArchived": "--archived",
    "q": "--notes-contain",
    "file": "FILE",
}
_SHOWN_DETAILS = 300
_PLAIN = {"→": "->", "…": "...", "±": "+/-"}
"""ASCII replacements for the symbols in our own texts."""
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


class FileUnusable(SnapshotError):
    """A file or folder that an option or a setting names cannot be read or written."""

    code = "file_unusable"


@dataclass(frozen=True)
class Lazy:
    """A command that is imported when it is called: `package.module:attribute` and its line in the help."""

    where: str
    help: str
    logs: bool = False
    """Whether the command is a long-running process, whose warnings go to the log."""

    def load(self) -> click.Command:
        """Import the module of a command and return the command."""
        module, _, attribute = self.where.partition(":")
        with interrupts.exit_at_once():
            command: click.Command = getattr(import_module(module), attribute)
        return command


class LazyGroup(click.Group):
    """A group of lazy commands. `commands_by_name` is in the order of the help."""

    def __init__(self, *args: Any, commands_by_name: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = {name: click.Command(name) for name in commands_by_name}  # for its suggestions
        self.commands_by_name = dict(commands_by_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self.commands_by_name.get(cmd_name)
        return found.load() if found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, left = super().resolve_command(ctx, args)
        if name in self.commands_by_name and not self.commands_by_name[name].logs:
            _warn_of_unknown_variables()
        return name, command, left

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click's implementation would import every command to read its help.
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.help) for name, each in self.commands_by_name.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = "--json" in args
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command. Output that cannot be written is an error of one line, not a traceback."""
        codecs.register_error("plain", _plain)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="plain")  # characters that a terminal's encoding lacks
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _OUTPUT_ERRORS:
                if error.filename is None and _is_current_directory_gone():
                    click.echo("Error: The current directory no longer exists: change to another directory.", err=True)
                    sys.exit(FAILED)
                raise
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - otherwise Python writes the rest again when it exits
            named = error.filename is not None
            what = f"{os.fsdecode(error.filename)} cannot be used" if named else "The output cannot be written"
            click.echo(f"Error: {what}: {error.strerror}.", err=True)
            sys.exit(FAILED)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            context = super().make_context(*args, **kwargs)
        except click.ClickException as error:
            _show_usage_error(error)
            sys.exit(error.exit_code)
        if _without_colour():
            context.color = False
        return context

    def invoke(self, ctx: click.Context) -> Any:
        as_json: bool = ctx.meta[__name__]
        interrupts.install()
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort) as interrupt:
            interrupts.ignore()
            hints: list[str] = getattr(interrupt, "__notes__", [])
            # On one line, however long: a hint ends with a command, which is pasted.
            click.echo(f"Interrupted. {' '.join(hints) or 'Run the command again to repeat it.'}", err=True)
            ctx.exit(INTERRUPTED)
        except click.ClickException as error:
            if as_json and isinstance(error, click.UsageError):
                _print_json({"code": "wrong_use", "message": error.format_message(), "details": {}})
            _show_usage_error(error)
            ctx.exit(error.exit_code)
        except InvalidRequest as error:
            _show(error, error.sentences(option_of), as_json)
            ctx.exit(USAGE_ERROR)
        except InvalidSettings as error:
            _show(error, error.message, as_json)
            ctx.exit(USAGE_ERROR)
        except SnapshotError as error:
            _show(error, describe(error.outcome()), as_json)
            ctx.exit(FAILED)
        except OSError as error:
            if error.filename is None or error.errno in _OUTPUT_ERRORS:
                raise
            unusable = FileUnusable(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}.")
            _show(unusable, unusable.message, as_json)
            ctx.exit(FAILED)


def _is_current_directory_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace characters that the encoding lacks: our own symbols by ASCII, all others by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in lacking), error.end


def describe(outcome: Mapping[str, Any]) -> str:
    """Format an error as one line: message, code and details."""
    details = "".join(f", {name}: {value}" for name, value in outcome["details"].items())
    if len(details) > _SHOWN_DETAILS:
        details = f"{details[:_SHOWN_DETAILS]}…"
    return f"{outcome['message']} ({outcome['code']}{details})"


def _without_colour() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"  # https://no-color.org


def _show_usage_error(error: click.ClickException) -> None:
    """Print what click prints, its error in the colour of all others."""
    text = io.StringIO()
    error.show(text)
    for line in text.getvalue().splitlines():
        echo(line, "red" if line.startswith("Error: ") and not _without_colour() else None, err=True)


def _warn_of_unknown_variables() -> None:
    from worker.settings import unknown_variables

    for name, nearest in unknown_variables():
        hint = f"; did you mean {nearest}?" if nearest else "."
        echo(f"Warning: {name} is not a setting and has no effect{hint}", "yellow", err=True)


def _show(error: SnapshotError, line: str, as_json: bool) -> None:
    if as_json:
        _print_json(error.outcome())
    echo(f"Error: {line}", "red", err=True)


def _print_json(outcome: dict[str, Any]) -> None:
    click.echo(json.dumps({"error": outcome}))


def option_of(field: str) -> str:
    """Name the option of a field: `--request-id` for `requestId`, `--message number 3` for `messageIds.2`."""
    name, _, place = field.partition(".")
    spelled = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Id"))
    option = "--request-id" if name == "requestId" else _OPTIONS.get(name, f"--{spelled}")
    return f"{option} number {int(place) + 1}" if place.isdecimal() else option
