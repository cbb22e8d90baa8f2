"""Runs and prints a backfill: `snapshots backfill` and `snapshots request --all`."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from bson import ObjectId
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from worker.backfills.accepting import accept_backfill
from worker.backfills.progress import Progress
from worker.backfills.running import Runner
from worker.cli.group import FAILED, describe
from worker.cli.lines import echo, plural
from worker.cli.shared import open_producer, print_json, program, resume_hint
from worker.errors import ContactErased
from worker.jobs.job import COMPLETED, Job
from worker.jobs.store import Jobs

WAIT_SECONDS = 3600.0
_UNDECIDED_SECONDS = 15.0
"""How long the command waits for the first outcome before it says that there may be no worker."""


def run_backfill(
    organization: ObjectId, given: Mapping[str, Any], chunk: int | None, timeout: float, *, as_json: bool
) -> int:
    """Run a backfill or watch the one in progress; print its result and return the exit code.

    Args:
        organization: The organization whose conversations are requested.
        given: The other fields of `BackfillSpec`, in camelCase.
        chunk: Maximum number of requests in a message. None: the setting SNAPSHOTS_CHUNK_SIZE.
        timeout: How many seconds to run or watch it; after that, the workers continue.
        as_json: Whether to print JSON.

    Raises SnapshotError.
    """
    jobs = Jobs(open_producer(**({} if chunk is None else {"chunk_size": chunk})))
    job = accept_backfill(jobs, organization, given, enqueue=False)
    started, before = time.monotonic(), _outcomes(Progress.of(job))
    hint = f"The workers continue it. Watch it with: {program()} backfill show {job.id}"
    with resume_hint(hint), _bar(before) as on_progress:
        job = Runner(jobs, on_progress)(job.id, timeout)
    seconds = time.monotonic() - started
    done = Progress.of(job)
    rate = (_outcomes(done) - before) / seconds
    if as_json:
        print_json(shown(job) | {"seconds": round(seconds, 3), "rate": round(rate, 1)})
    else:
        _print(job, done, seconds, rate)
    return 0 if job.status == COMPLETED and not set(done.refused) - {ContactErased.code} else FAILED


def shown(job: Job) -> dict[str, Any]:
    """Return a backfill as a JSON object for `--json`."""
    times = {"acceptedAt": job.accepted_at, "startedAt": job.started_at, "finishedAt": job.finished_at}
    return {
        "id": job.id,
        "organizationId": job.organization,
        "status": job.status,
        **Progress.of(job).as_fields(),
        "asked": dict(job.spec),
        **{name: moment for name, moment in times.items() if moment},
        **({"error": job.error} if job.error else {}),
    }


def _outcomes(progress: Progress) -> int:
    return progress.completed + progress.failed


def _print(job: Job, done: Progress, seconds: float, rate: float) -> None:
    click.echo(f"backfill {job.id}: {job.status}")
    click.echo(f"{plural(done.requests, 'request')} of organization {job.organization}, {done.accepted:,} of them new")
    speed = f": {rate:,.0f} a second" if done.accepted else ""
    click.echo(f"completed {done.completed:,}, failed {done.failed:,}, in {seconds:.1f} s{speed}")
    for code, count in done.failures.most_common():
        click.echo(f"  failed {count:,}: {code}")
    if done.requests and not done.accepted and job.is_finished:
        click.echo("An earlier backfill requested all of them; their snapshots were not made again.")
    if done.deleted:
        click.echo(f"skipped {done.deleted:,}: their snapshots were deleted")
    for code, count in done.refused.most_common():
        echo(f"  not requested {count:,}: {code}", "red")
    if job.error:
        echo(f"Error: {describe(job.error)}", "red", err=True)
    if not job.is_finished:
        message = "Not finished in time. The workers continue it; run the command again to keep waiting."
        echo(message, "yellow", err=True)


@contextmanager
def _bar(before: int) -> Iterator[Callable[[Progress], None]]:
    """Show progress on standard error if it is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("Snapshots"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]:,} of {task.fields[wanted]}, {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, done=0, wanted="?", rate=0.0)
        started = time.monotonic()
        undecided_since: float | None = None
        is_warned = False

        def show(progress: Progress) -> None:
            nonlocal undecided_since, is_warned
            now, done = time.monotonic(), _outcomes(progress)
            rate = (done - before) / max(now - started, 0.001)
            if progress.in_flight and done == before and not is_warned:
                undecided_since = undecided_since or now
                if now - undecided_since > _UNDECIDED_SECONDS:
                    is_warned = True
                    console.print(_no_outcome(), markup=False, highlight=False, soft_wrap=True)
            if progress.conversations is not None:
                total = progress.conversations - progress.deleted - progress.refused.total()
                bar.update(task, total=total, wanted=f"{total:,}")
            bar.update(task, completed=done, done=done, rate=rate)

        yield show


def _no_outcome() -> str:
    return f"""\
No request has an outcome yet. If no worker is running, start one:
  {program()} celery worker -P prefork -c 1"""
