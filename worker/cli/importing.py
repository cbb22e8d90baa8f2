"""`snapshots import`: imports conversations from files into the platform's collections."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from bson import ObjectId
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from worker.cli.group import FAILED, USAGE_ERROR
from worker.cli.lines import echo, plural
from worker.cli.options import ObjectIdType
from worker.cli.shared import build_service, program, resume_hint
from worker.errors import SnapshotError, UnusableServer
from worker.importing import OnProgress, Report, import_files
from worker.startup.process import require

SHOWN_REFUSALS = 20


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--organization", type=ObjectIdType(), help="The organization of the conversations. Generated if omitted."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@click.pass_context
def import_command(
    context: click.Context, files: tuple[Path, ...], organization: ObjectId | None, as_json: bool
) -> None:
    """Import conversations from JSON Lines files, gzipped or not.

    Each conversation is stored as closed at the time of its last message, with one contact per e-mail address.
    Running the import again for the same organization, even after an interruption, stores nothing twice. Each line
    is one conversation:

    \b
    {"conversation": {"ref": "chat-17", "channelType": "whatsapp",
                      "language": "en"},
     "contact": {"firstName", "lastName", "phoneNumber", "email"}, "agent": {...},
     "messages": [{"content": "Hello", "sender": "contact" or "user",
                   "senderType": "CONTACT", "HUMAN", "AI" or "SYSTEM",
                   "timestamp": "2026-05-13T13:14:57.199Z"}, ...]}

    \b
    Example:
        snapshots import conversations.jsonl more.jsonl.gz --organization ID

    The exit code is 1 if a line was refused or MongoDB is down, and 2 if MongoDB cannot be used with these settings.
    """
    organization_id = organization or ObjectId()
    connections = build_service().connections
    command = [program(), "import", *(shlex.quote(str(each)) for each in files), "--organization", str(organization_id)]
    resume = f"Stored conversations are kept. Resume with: {' '.join(command)}"
    try:
        require(connections, redis=False)
        if organization is None:
            # Printed before anything is stored, so that an interrupted import can be resumed.
            click.echo(f"Organization {organization_id}", err=True)
        with resume_hint(resume), _progress_bar() as on_progress:
            report = import_files(files, organization_id, connections, on_progress)
    except SnapshotError as error:
        if as_json:
            click.echo(json.dumps({"organizationId": str(organization_id), "error": error.outcome()}))
        echo(f"Error: {error.message}", "red", err=True)
        if isinstance(error, UnusableServer):
            context.exit(USAGE_ERROR)
        click.echo(resume, err=True)
        context.exit(FAILED)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        _print_report(report)
    context.exit(1 if report.refusals else 0)


@contextmanager
def _progress_bar() -> Iterator[OnProgress]:
    """Show progress on standard error if it is a terminal."""
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
        "already stored": report.already_there,
        "refused": report.refusals,
    }
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    console.print(f"Created {plural(report.contacts, 'contact')} and {plural(report.messages, 'message')}.")
    for each in report.refused[:SHOWN_REFUSALS]:
        console.print(f"{each.file}:{each.line}: {each.reason}", style="red", markup=False)
    if (more := report.refusals - SHOWN_REFUSALS) > 0:
        listed = "all of them" if report.refusals == len(report.refused) else f"the first {len(report.refused):,}"
        console.print(f"and {more:,} more; --json lists {listed}", style="red")
