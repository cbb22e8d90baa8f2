"""`snapshots doctor`: what is wrong, and what to do about it."""

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from worker.cli.group import FAILED
from worker.cli.options import json_option
from worker.cli.shared import console, print_json
from worker.doctor.findings import Level
from worker.log import hide_passwords

if TYPE_CHECKING:
    from worker.doctor.examination import Examination

_MARKS = {Level.OK: ("ok", "green"), Level.WARNING: ("warning", "yellow"), Level.FAILURE: ("FAILURE", "red")}


@click.command()
@click.option("--no-request", is_flag=True, help="Look only: write nothing, send no request.")
@click.option(
    "--wait",
    type=click.FloatRange(0.1, 600),
    default=30.0,
    show_default=True,
    help="Seconds that the request may take to be accepted, and then to be done.",
)
@json_option
@click.pass_context
def doctor(context: click.Context, no_request: bool, wait: float, as_json: bool) -> None:
    """Check settings, servers, indexes, streams, clocks and processes, and send one request through.

    Its request is of a conversation that it stores in an organization of its own, 736e61702d646f63746f7221, and
    removes again with all that came of it. It ends with 1 if there is a failure; warnings alone end with 0.

    \b
    Example:
        snapshots doctor
        snapshots doctor --no-request --json | jq '.findings[] | select(.level == "failure") | .advice'
    """
    from worker.doctor.examination import examine

    err = Console(stderr=True)
    with err.status("settings") as status:
        found = examine(send=not no_request, patience=wait, begins=status.update)
    if as_json:
        print_json(_as_fields(found))
    else:
        _print(found)
    context.exit(FAILED if found.failures else 0)


def _as_fields(found: "Examination") -> dict[str, Any]:
    return {
        "ok": not found.failures,
        "findings": [
            {
                "check": check.name,
                "level": each.level.value,
                "said": hide_passwords(each.said),
                **({"advice": each.advice} if each.advice else {}),
            }
            for check in found.checks
            for each in check.findings
        ],
        "seconds": {check.name: round(check.seconds, 4) for check in found.checks},
        "steps": {name: round(seconds, 4) for name, seconds in found.steps.items()},
    }


def _print(found: "Examination") -> None:
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    for check in found.checks:
        for place, each in enumerate(check.findings):
            mark, style = _MARKS[each.level]
            table.add_row(
                "" if place else check.name, mark, hide_passwords(each.said), style=style if mark != "ok" else ""
            )
            if each.advice:
                table.add_row("", "", f"→ {each.advice}")
    out = console()
    out.print(table)
    if found.steps:
        out.print(
            "the request: " + ", ".join(f"{name} {seconds * 1000:,.0f} ms" for name, seconds in found.steps.items())
        )
    warnings = sum(each.level is Level.WARNING for check in found.checks for each in check.findings)
    out.print(f"{found.failures} failure(s), {warnings} warning(s)")
