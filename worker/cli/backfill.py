"""`snapshots request --all`, as a terminal sees it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from bson import ObjectId
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from worker.backfill import Backfill, OnProgress, Progress
from worker.cli.group import FAILED
from worker.cli.shared import open_service, print_json


def run_backfill(
    organization: ObjectId, fields: Mapping[str, Any], chunk: int | None, timeout: float, *, as_json: bool
) -> int:
    """Asks for all, waits, and prints what became of them; the exit code. Raises SnapshotError."""
    service = open_service(**({} if chunk is None else {"chunk_size": chunk}))
    with _progress_bar() as on_progress:
        done = Backfill(service, organization, fields, on_progress)(timeout)
    if as_json:
        print_json(_as_fields(organization, done))
    else:
        _print(organization, done)
    return FAILED if done.in_flight or done.refused else 0


def _as_fields(organization: ObjectId, done: Progress) -> dict[str, Any]:
    return {
        "organizationId": organization,
        "conversations": done.conversations,
        "requests": done.requests,
        "accepted": done.accepted,
        "completed": done.completed,
        "failed": done.failed,
        "inFlight": done.in_flight,
        "failures": dict(done.failures),
        "refused": dict(done.refused),
        "seconds": round(done.seconds, 3),
        "rate": round(done.rate, 1),
    }


def _print(organization: ObjectId, done: Progress) -> None:
    click.echo(f"{done.requests:,} requests of organization {organization}, {done.accepted:,} of them new")
    click.echo(
        f"completed {done.completed:,}, failed {done.failed:,}, in {done.seconds:.1f} s: {done.rate:,.0f} a second"
    )
    for code, count in done.failures.most_common():
        click.echo(f"  failed {count:,}: {code}")
    for code, count in done.refused.most_common():
        click.secho(f"  not asked for {count:,}: {code}", fg="red")
    if done.in_flight:
        said = f"{done.in_flight:,} not finished in time; they stay accepted. Run it again to go on waiting."
        click.secho(said, fg="yellow", err=True)


@contextmanager
def _progress_bar() -> Iterator[OnProgress]:
    """On standard error, and only if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("Snapshots"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]:,} of {task.total:,}, {task.fields[rate]:,.0f} a second"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=0, done=0, rate=0.0)

        def show(progress: Progress) -> None:
            done = progress.completed + progress.failed
            bar.update(task, total=progress.conversations, completed=done, done=done, rate=progress.rate)

        yield show
