"""`snapshots backfill`: request a snapshot of every conversation that is selected; list, show and cancel backfills."""

from typing import Any

import click
from bson import ObjectId

from worker.backfills.accepting import count_selected
from worker.backfills.progress import Progress
from worker.cli.backfilling import WAIT_SECONDS, run_backfill, shown
from worker.cli.options import ObjectIdType, json_option, organization_option
from worker.cli.shared import open_producer, open_service, print_json
from worker.cli.tables import print_table
from worker.errors import NotFound
from worker.jobs.job import Job
from worker.jobs.store import JobFilter, Jobs

_NAMES = {"from_": "from", "min_messages": "minMessages", "user": "userId"}


@click.group(invoke_without_command=True)
@click.option("--organization", type=ObjectIdType(), help="The organization. Required.")
@click.option(
    "--from", "from_", metavar="TIME|DAY", help="Only conversations whose first message was sent at or after this time."
)
@click.option(
    "--to", metavar="TIME|DAY", help="Only conversations whose first message was sent at or before this time."
)
@click.option("--channel", "channels", multiple=True, help="Only conversations of this channel. Repeatable.")
@click.option("--min-messages", type=click.IntRange(1), help="Only conversations with at least this many messages.")
@click.option(
    "--limit", type=click.IntRange(1), help="Request at most this many conversations, in the order of their ids."
)
@click.option("--user", type=ObjectIdType(), help="The user who requests the snapshots.")
@click.option("--notes", help="Free-text notes.")
@click.option("--tag", "tags", multiple=True, help="A tag. Repeatable.")
@click.option("--quality", help="The quality, such as good or bad.")
@click.option("--category", help="The category, such as billing.")
@click.option("--dry-run", is_flag=True, help="Only count the conversations.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400),
    default=WAIT_SECONDS,
    show_default=True,
    help="Maximum wait in seconds.",
)
@json_option
@click.pass_context
def backfill(
    context: click.Context,
    /,
    organization: ObjectId | None,
    dry_run: bool,
    timeout: float,
    as_json: bool,
    **given: Any,
) -> None:
    """Request a snapshot of every conversation that is selected, and wait for all of them.

    A backfill is a durable job. This command runs it; if it ends early, by Ctrl-C or otherwise, the workers continue,
    and the same command shows its progress again. The idempotency keys are `all:<conversation>`, so another backfill
    makes no second snapshot of anything. It pauses while interactive requests wait for a worker.

    The exit code is 0 once every request has an outcome, a snapshot or a failure, and 1 if some could not be
    requested or did not finish in time.

    \b
    Example:
        snapshots backfill --organization ID --dry-run
        snapshots backfill --organization ID --channel whatsapp --min-messages 4 --tag backfill
        snapshots backfill show 6a1b2c3d4e5f60718293a4b5
    """
    if context.invoked_subcommand is not None:
        return
    if organization is None:
        raise click.UsageError("Missing option '--organization'.")
    fields = {
        _NAMES.get(name, name): list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value not in {None, ()}
    }
    if dry_run:
        number = count_selected(Jobs(open_service()), organization, fields)
        if as_json:
            print_json({"organizationId": organization, "conversations": number})
        else:
            click.echo(f"{number:,} conversations would be requested")
        return
    context.exit(run_backfill(organization, fields, None, timeout, as_json=as_json))


@backfill.command("list")
@organization_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@json_option
def list_(organization: ObjectId | None, limit: int, as_json: bool) -> None:
    """List backfills, newest first.

    \b
    Example:
        snapshots backfill list --organization ID
    """
    found = Jobs(open_service()).list(JobFilter(organization, "backfill"), limit)
    if as_json:
        print_json({"backfills": [shown(each) for each in found]})
        return
    columns = ("id", "organization", "status", "conversations", "completed", "failed", "accepted")
    print_table(columns, map(_row, found), "There are no backfills.", ("conversations", "completed", "failed"))


def _row(job: Job) -> tuple[str, ...]:
    done = Progress.of(job)
    counts = ("" if number is None else f"{number:,}" for number in (done.conversations, done.completed, done.failed))
    return (str(job.id), str(job.organization), job.status, *counts, f"{job.accepted_at:%Y-%m-%d %H:%M:%S}")


@backfill.command()
@click.argument("key", type=ObjectIdType(), metavar="ID")
@json_option
def show(key: ObjectId, as_json: bool) -> None:
    """Show a backfill: status, what it was asked for, and counts.

    \b
    Example:
        snapshots backfill show 6a1b2c3d4e5f60718293a4b5
    """
    print_json(shown(Jobs(open_service()).get(key, kind="backfill")), indent=None if as_json else 2)


@backfill.command()
@click.argument("key", type=ObjectIdType(), metavar="ID")
def cancel(key: ObjectId) -> None:
    """Cancel a backfill. Nothing more is accepted; what was accepted gets its outcome.

    \b
    Example:
        snapshots backfill cancel 6a1b2c3d4e5f60718293a4b5
    """
    jobs = Jobs(open_producer())
    job = jobs.get(key, kind="backfill")
    if not jobs.cancel(job.id):
        raise NotFound(f"Backfill {job.id} is {jobs.get(job.id).status} already.")
    click.echo(f"Backfill {job.id} is cancelled. The requests that it had accepted are still processed.")
