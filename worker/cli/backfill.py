"""`snapshots backfill`: requests a snapshot of every selected conversation; lists, shows and cancels backfills."""

from typing import Any

import click
from bson import ObjectId

from worker.backfills.accepting import count_selected
from worker.backfills.progress import Progress
from worker.cli.backfilling import WAIT_SECONDS, run_backfill, shown
from worker.cli.jobs import JobCommands, add_job_commands
from worker.cli.lines import plural
from worker.cli.options import ObjectIdType, json_option
from worker.cli.shared import open_service, print_json
from worker.jobs.job import Job
from worker.jobs.store import Jobs

_NAMES = {"from_": "from", "min_messages": "minMessages", "user": "userId"}


@click.group(invoke_without_command=True)
@click.option("--organization", type=ObjectIdType(), help="The organization. Required.")
@click.option(
    "--from",
    "from_",
    metavar="TIME|DAY",
    help="Only conversations whose first message is from this time or later, such as 2026-05-18T14:30:00Z.",
)
@click.option(
    "--to",
    metavar="TIME|DAY",
    help="Only conversations whose first message is from this time or earlier; a date alone means 00:00 UTC.",
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
    """Request a snapshot of every selected conversation, and wait for all of them.

    A backfill is a durable job. This command runs it. If the command ends early, for example by Ctrl-C, the workers
    continue, and the same command shows the progress again. The idempotency keys are `all:<conversation>`, so another
    backfill makes no second snapshot of a conversation. A backfill pauses while interactive requests wait for a worker.

    The exit code is 0 once every request has an outcome, a snapshot or a failure, and 1 if some could not be
    requested or did not finish in time.

    \b
    Example:
        snapshots backfill --organization ID --dry-run
        snapshots backfill --organization ID --channel whatsapp --min-messages 4
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
            click.echo(f"{plural(number, 'conversation')} would be requested")
        return
    context.exit(run_backfill(organization, fields, None, timeout, as_json=as_json))


def _count(job: Job) -> list[str]:
    done = Progress.of(job)
    return ["" if number is None else f"{number:,}" for number in (done.conversations, done.completed, done.failed)]


_COUNTS = ("conversations", "completed", "failed")
_WHEN_CANCELLED = "No more requests are accepted. Requests that were accepted before still get their outcomes."
add_job_commands(backfill, JobCommands("backfill", shown, _COUNTS, _count, _COUNTS, _WHEN_CANCELLED))
