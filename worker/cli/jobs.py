"""The commands `list`, `show` and `cancel` for a kind of job, and what commands that wait for a job share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from bson import ObjectId

from worker.cli.lines import utc
from worker.cli.options import ObjectIdType, json_option, organization_option
from worker.cli.shared import open_producer, open_service, print_json, program
from worker.cli.tables import print_table
from worker.errors import NotFound, TransientError
from worker.jobs.job import TASKS, Job, Kind
from worker.jobs.store import JobFilter, Jobs

UNTAKEN_SECONDS = 5.0
"""How long a command waits for a worker to begin a job before it says that none has."""
_ID = "6a1b2c3d4e5f60718293a4b5"


@dataclass(frozen=True)
class JobCommands:
    """The parts of `list`, `show` and `cancel` that depend on the kind of job.

    `counts`: the columns of the table between status and time.
    """

    kind: Kind
    shown: Callable[[Job], dict[str, Any]]
    counts: Sequence[str]
    count: Callable[[Job], Sequence[str]]
    numbers: Sequence[str]
    """The columns to align on the right."""
    when_cancelled: str
    """A sentence for the output of `cancel` that says what happens to the job's work."""


def add_job_commands(group: click.Group, of: JobCommands) -> None:
    """Add the commands `list`, `show` and `cancel` for one kind of job to a group."""
    kind, command = of.kind, f"snapshots {group.name}"
    a_job = f"an {kind}" if kind == "export" else f"a {kind}"

    @group.command("list", help=_help(f"List {kind}s, newest first.", f"{command} list --organization ID"))
    @organization_option
    @click.option(
        "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of jobs."
    )
    @json_option
    def list_(organization: ObjectId | None, limit: int, as_json: bool) -> None:
        found = Jobs(open_service()).list(JobFilter(organization, kind), limit)
        if as_json:
            print_json({f"{kind}s": [of.shown(each) for each in found]})
            return
        columns = ("id", "organization", "status", *of.counts, "accepted (UTC)")
        print_table(columns, map(row, found), f"There are no such {kind}s.", of.numbers)

    def row(job: Job) -> tuple[str, ...]:
        return (str(job.id), str(job.organization), job.status, *of.count(job), utc(job.accepted_at))

    @group.command(help=_help(f"Show the status, options and counts of {a_job}.", f"{command} show {_ID}"))
    @click.argument("key", type=ObjectIdType(), metavar="ID")
    @json_option
    def show(key: ObjectId, as_json: bool) -> None:
        print_json(of.shown(Jobs(open_service()).get(key, kind=kind)), indent=None if as_json else 2)

    @group.command(help=_help(f"Cancel {a_job}. {of.when_cancelled}", f"{command} cancel {_ID}"))
    @click.argument("key", type=ObjectIdType(), metavar="ID")
    @json_option
    def cancel(key: ObjectId, as_json: bool) -> None:
        jobs = Jobs(open_producer())
        job = jobs.get(key, kind=kind)
        if not jobs.cancel(job.id):
            raise NotFound(f"{kind.capitalize()} {job.id} is already {jobs.get(job.id).status}.")
        if as_json:
            print_json(of.shown(jobs.get(job.id)))
        else:
            click.echo(f"{kind.capitalize()} {job.id} is cancelled. {of.when_cancelled}")


def latest(jobs: Jobs, job: Job) -> Job:
    """Return a job that workers run as it is now, or as it was known while MongoDB cannot be reached."""
    try:
        return jobs.get(job.id)
    except TransientError:
        return job


def _help(sentence: str, example: str) -> str:
    return f"{sentence}\n\n\b\nExample:\n    {example}"


def untaken(job: Job, show: str) -> str:
    """Return what to do if no worker takes a job. `show`: the command that shows the job."""
    start = f"{program()} celery worker -P prefork -c 1 -n exporter@%h -Q {TASKS[job.kind][1]}"
    return f"""\
No worker has taken {job.kind} {job.id} yet. If none is running, start one:
  {start}
It stays accepted even after Ctrl-C. Watch it with: {show}"""
