"""A Click group whose commands are imported when they are called, and whose errors all end alike.

Exit codes: 0, 1 failed, 2 wrong use, 130 Ctrl-C.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from worker.errors import InvalidRequest, InvalidSettings, SnapshotError

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130

_OPTIONS = {"messageIds": "--message", "tags": "--tag", "body": "options"}
_SHOWN_DETAILS = 300


@dataclass(frozen=True)
class Lazy:
    """A command that is imported when it is called: `package.module:attribute`, and its line in the list."""

    where: str
    help: str

    def load(self) -> click.Command:
        module, _, attribute = self.where.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


class LazyGroup(click.Group):
    """`commands_by_name`: the commands, in the order of the list."""

    def __init__(self, *args: Any, commands_by_name: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_by_name = dict(commands_by_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self.commands_by_name.get(cmd_name)
        return found.load() if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click's own would import every command for its line.
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.help) for name, each in self.commands_by_name.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        as_json: bool = ctx.meta[__name__]
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)
        except click.UsageError as error:
            if as_json:
                _print_json({"code": "wrong_use", "message": error.format_message(), "details": {}})
            raise
        except InvalidRequest as error:
            _show(error, _faults_of_options(error), as_json)
            ctx.exit(WRONG_USE)
        except InvalidSettings as error:
            _show(error, error.message, as_json)
            ctx.exit(WRONG_USE)
        except SnapshotError as error:
            _show(error, describe(error.outcome()), as_json)
            ctx.exit(FAILED)


def describe(outcome: Mapping[str, Any]) -> str:
    """An error on one line: message, code, details."""
    details = "".join(f", {name}: {value}" for name, value in outcome["details"].items())
    if len(details) > _SHOWN_DETAILS:
        details = f"{details[:_SHOWN_DETAILS]}…"
    return f"{outcome['message']} ({outcome['code']}{details})"


def _show(error: SnapshotError, line: str, as_json: bool) -> None:
    if as_json:
        _print_json(error.outcome())
    click.secho(f"Error: {line}", fg="red", err=True)


def _print_json(outcome: dict[str, Any]) -> None:
    click.echo(json.dumps({"error": outcome}))


def _faults_of_options(error: InvalidRequest) -> str:
    return "; ".join(f"{_option_of(each['field'])}: {each['message']}" for each in error.errors)


def _option_of(field: str) -> str:
    """`--request-id` for `requestId`; `--message number 3` for `messageIds.2`."""
    name, _, place = field.partition(".")
    spelled = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Id"))
    option = "--request-id" if name == "requestId" else _OPTIONS.get(name, f"--{spelled}")
    return f"{option} number {int(place) + 1}" if place.isdecimal() else option
