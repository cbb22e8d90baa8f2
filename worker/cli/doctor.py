"""`snapshots doctor`: reports problems of an installation, and what to do about each."""

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
@click.option("--no-request", is_flag=True, help="Only read; send no test request.")
@click.option(
    "--wait",
    type=click.FloatRange(0.1, 600),
    default=30.0,
    show_default=True,
    help="Time limit in seconds for accepting the test request, and again for processing it.",
)
@json_option
@click.pass_context
def doctor(context: click.Context, no_request: bool, wait: float, as_json: bool) -> None:
    """Check settings, servers, indexes, streams, clocks and processes, and send one test request.

    The test request uses a conversation that the doctor stores in an organization of its own,
    736e61702d646f63746f7221, and removes afterwards together with its snapshot and event. The exit code is 1 if there
    is a failure, 0 if there are at most warnings.

    \b
    Example:
        snapshots doctor
        snapshots doctor --no-request --json | jq '.findings[].advice'
    """
    from worker.doctor.examination import examine

    err = Console(stderr=True)
    with err.status("settings") as status:
        found = examine(send=not no_request, patience=wait, on_check=status.update)
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
                "level": finding.level.value,
                "message": hide_passwords(finding.message),
                **({"advice": finding.advice} if finding.advice else {}),
            }
            for check in found.checks
            for finding in check.findings
        ],
        "seconds": {check.name: round(check.seconds, 4) for check in found.checks},
        "steps": {name: round(seconds, 4) for name, seconds in found.steps.items()},
    }


def _print(found: "Examination") -> None:
    out = console()
    arrow = "->" if out.options.ascii_only else "→"
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("finding and advice", overflow="fold")
    for check in found.checks:
        for place, finding in enumerate(check.findings):
            mark, style = _MARKS[finding.level]
            table.add_row(
                "" if place else check.name, mark, hide_passwords(finding.message), style=style if mark != "ok" else ""
            )
            if finding.advice:
                table.add_row("", "", f"{arrow} {finding.advice}")
    out.print(table)
    if found.steps:
        out.print(
            "test request: " + ", ".join(f"{name} {seconds * 1000:,.0f} ms" for name, seconds in found.steps.items())
        )
    warnings = sum(finding.level is Level.WARNING for check in found.checks for finding in check.findings)
    out.print(f"failures: {found.failures}, warnings: {warnings}")
