"""The terminal output of `snapshots request --all`."""

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
from worker.cli.shared import open_producer, print_json, resume_hint


def run_backfill(
    organization: ObjectId, fields: Mapping[str, Any], chunk: int | None, timeout: float, *, as_json: bool
) -> int:
    """Run a backfill, wait for it and print its result. Returns the exit code. Raises SnapshotError."""
    service = open_producer(**({} if chunk is None else {"chunk_size": chunk}))
    with resume_hint("Accepted requests stay accepted. Run the same command again to continue."), _bar() as on_progress:
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
        "deleted": done.deleted,
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
    if done.deleted:
        click.echo(f"not made again {done.deleted:,}: their snapshots were deleted")
    for code, count in done.refused.most_common():
        click.secho(f"  not requested {count:,}: {code}", fg="red")
    if done.in_flight:
        message = f"{done.in_flight:,} not finished in time; they stay accepted. Run the command again to keep waiting."
        click.secho(message, fg="yellow", err=True)


@contextmanager
def _bar() -> Iterator[OnProgress]:
    """Show progress on standard error if it is a terminal."""
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
            bar.update(
                task, total=progress.conversations - progress.deleted, completed=done, done=done, rate=progress.rate
            )

        yield show
