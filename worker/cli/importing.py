"""`snapshots import`: conversations from files into the platform's collections."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from bson import ObjectId
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from worker.cli.options import ObjectIdType
from worker.errors import SnapshotError
from worker.importing import OnProgress, Report, import_files
from worker.settings import load
from worker.stores.connections import Connections

SHOWN_REFUSALS = 20


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--organization", type=ObjectIdType(), help="Whose conversations these are; without it a new id is made.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@click.pass_context
def import_command(
    context: click.Context, files: tuple[Path, ...], organization: ObjectId | None, as_json: bool
) -> None:
    """Import conversations from JSON Lines, gzipped or not.

    Each is stored whole and closed, as of its last message; one contact for each e-mail. Running it again with
    the same organization stores nothing twice, also after it was interrupted. One conversation a line:

    \b
    {"conversation": {"ref": "chat-17", "channelType": "whatsapp", "language": "en"},
     "contact": {"firstName", "lastName", "phoneNumber", "email"}, "agent": {...},
     "messages": [{"content": "Hello", "sender": "contact" or "user",
                   "senderType": "CONTACT", "HUMAN", "AI" or "SYSTEM",
                   "timestamp": "2026-05-13T13:14:57.199Z"}, ...]}

    \b
    Example:
        snapshots import conversations.jsonl more.jsonl.gz --organization 6a1b2c3d4e5f60718293a4b5

    The exit code is 1 if a line was refused or MongoDB cannot be used.
    """
    organization_id = organization or ObjectId()
    settings = load()
    if organization is None:
        # Before anything is stored: whoever interrupts it goes on with the same.
        click.echo(f"Organization {organization_id}", err=True)
    try:
        with closing(Connections(settings)) as connections, _progress_bar() as on_progress:
            report = import_files(files, organization_id, connections, on_progress)
    except SnapshotError as error:
        _print_error(error, organization_id, as_json)
        context.exit(1)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        _print_report(report)
    context.exit(1 if report.refused else 0)


@contextmanager
def _progress_bar() -> Iterator[OnProgress]:
    """On standard error, and only if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("Importing"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[read]} conversations, {task.fields[size]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None, read=0, size=decimal(0))

        def show(done: int, total: int, report: Report) -> None:
            progress.update(task, completed=done, total=total or None, read=report.read, size=decimal(done))

        yield show


def _print_report(report: Report) -> None:
    console = Console(soft_wrap=True, highlight=False)
    table = Table(title=f"Organization {report.organization_id}", title_justify="left")
    table.add_column("conversations")
    table.add_column("count", justify="right")
    counts = {
        "read": report.read,
        "stored": report.stored,
        "already there": report.already_there,
        "refused": len(report.refused),
    }
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    console.print(f"Made {report.contacts:,} contacts and {report.messages:,} messages.")
    for each in report.refused[:SHOWN_REFUSALS]:
        console.print(f"{each.file}:{each.line}: {each.reason}", style="red", markup=False)
    if (more := len(report.refused) - SHOWN_REFUSALS) > 0:
        console.print(f"and {more:,} more refused; --json shows all of them", style="red")


def _print_error(error: SnapshotError, organization_id: ObjectId, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"organizationId": str(organization_id), "error": error.outcome()}))
    click.echo(f"Error: {error.message}", err=True)
    click.echo(
        f"What was stored stays. Go on with: snapshots import FILE... --organization {organization_id}", err=True
    )
