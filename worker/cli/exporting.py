"""`snapshots export`: writes snapshots to files, with progress."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from bson import ObjectId
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from worker.cli.group import FAILED
from worker.cli.jobs import UNTAKEN_SECONDS, latest, untaken
from worker.cli.lines import echo, plural
from worker.cli.options import ObjectIdType, TextType, json_option
from worker.cli.output_files import new_folder
from worker.cli.redaction_options import redact_option, redact_regions_option
from worker.cli.shared import open_producer, open_service, print_json, program, resume_hint
from worker.cli.snapshot_filters import snapshot_filter_options
from worker.domain.validation import LINE_BREAKS
from worker.errors import PermanentError, TransientError
from worker.exports.accepting import accept_export, check_export
from worker.exports.export import Export
from worker.exports.leftovers import owned, remove_leftovers
from worker.exports.places import open_folder
from worker.exports.showing import shown
from worker.formats.registry import FORMATS
from worker.jobs.job import ACCEPTED, COMPLETED, Job
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs

_PAUSE = 0.3
_OUTAGE = 60.0
"""Seconds for which a command waits while MongoDB or the destination fails, such as for the election of a primary."""
OnProgress = Callable[[Job], None]


@click.command()
@click.option("--organization", type=ObjectIdType(), required=True, help="The organization.")
@click.option(
    "--format",
    required=True,
    type=TextType(),
    metavar="NAME",
    help=f"One of {', '.join(FORMATS)}; see docs/formats.md.",
)
@snapshot_filter_options
@click.option("--split", type=TextType(), help="Percentages for train, validation and test by person, such as 90/5/5.")
@click.option("--stratify", type=click.Choice(["quality"]), help="Apply the percentages of --split to each quality.")
@click.option("--dedupe", is_flag=True, help="Leave out snapshots whose messages equal those of an earlier snapshot.")
@click.option("--system", type=TextType(LINE_BREAKS), help="System prompt of every row; may have several lines.")
@click.option("--weight-bad", is_flag=True, help="Give the weight 0 to the answers of bad snapshots (format messages).")
@click.option("--compress", type=click.Choice(["gzip", "zstd"]), help="Compress the files.")
@redact_option
@redact_regions_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write into this new or empty folder, without a worker. Default: SNAPSHOTS_EXPORTS_URL.",
)
@json_option
@click.pass_context
def export(
    context: click.Context, /, organization: ObjectId, output: Path | None, as_json: bool, **options: Any
) -> None:
    """Export the snapshots of an organization as training data.

    The exit code is 0 once the files are complete, and 1 if the export failed or was cancelled.

    \b
    Example:
        snapshots export --organization ID --format messages -o training
        snapshots export --organization ID --format kto --split 90/5/5 --dedupe
        snapshots export --organization ID --format jsonl --redact email -o data
    """
    given = _fields(options)
    done = _export_here(organization, given, output) if output else _export_there(organization, given)
    if as_json:
        print_json(shown(done))
    else:
        print_outcome(done, output)
    context.exit(0 if done.status == COMPLETED else FAILED)


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    names = {"weight_bad": "weightBad", "redact_regions": "redactRegions"}
    return {
        names.get(name, name): str(value) if isinstance(value, ObjectId) else value
        for name, value in options.items()
        if value is not None and value is not False
    }


def _export_there(organization: ObjectId, given: dict[str, Any]) -> Job:
    """Let a worker write the export, and wait for it."""
    service = open_producer()
    job = accept_export(service, organization, given)
    jobs = Jobs(service)
    show = f"{program()} exports show {job.id}"
    warn_at: float | None = time.monotonic() + UNTAKEN_SECONDS
    with resume_hint(f"It continues without this command: {show}"), _bar() as on_progress:
        while not job.is_finished:
            time.sleep(_PAUSE)
            job = latest(jobs, job)
            on_progress(job)
            if warn_at and job.status == ACCEPTED and time.monotonic() > warn_at:
                warn_at = None
                click.echo(untaken(job, show), err=True)
    return job


def _export_here(organization: ObjectId, given: dict[str, Any], folder: Path) -> Job:
    """Write the export in this process. Its job is marked as local, so that no worker continues it."""
    service = open_service()
    folder = new_folder(folder)
    spec = check_export(service, organization, given)
    remove_leftovers(folder.parent)
    jobs = Jobs(service)
    job = jobs.accept("export", organization, spec.stored(), local=True)
    with resume_hint("The export was cancelled and its files were removed. Run the command again."):
        return run_export(jobs, job, folder)


def run_export(jobs: Jobs, job: Job, folder: Path) -> Job:
    """Run an export in this process into a folder until it is finished; return the finished job.

    It waits up to `_OUTAGE` seconds for MongoDB and the destination. After any other error, and after Ctrl-C, it
    cancels the export and removes its files.
    """
    work = Export(jobs.service, lambda job: open_folder(folder, job.id))
    owner = f"{os.getpid()}@{socket.gethostname()}"
    with ExitStack() as stack:
        try:
            stack.enter_context(owned(folder.parent, job.id))
            on_progress = stack.enter_context(_bar())
            failing_since: float | None = None
            while not job.is_finished:
                try:
                    run_slice(jobs, job.id, owner, work, work.clean_up, local=True)
                    before, job = job, jobs.get(job.id)
                except TransientError:
                    failing_since = failing_since or time.monotonic()
                    if time.monotonic() > failing_since + _OUTAGE:
                        raise
                    time.sleep(_PAUSE)
                    continue
                failing_since = None
                if job.fence == before.fence:  # an erasure holds it, or an unexpected error has ended the slice
                    time.sleep(_PAUSE)
                on_progress(job)
        except BaseException:
            # The hidden folder first: MongoDB may be what has failed, and the end of the lock lets nobody find it.
            with suppress(TransientError, PermanentError):
                open_folder(folder, job.id).remove_staging()
            with suppress(TransientError, PermanentError):
                if not jobs.cancel(job.id) and (ended := jobs.get(job.id)).status == COMPLETED:
                    return ended  # its files have their names, and its event may be out
                work.clean_up(job)
            raise
    return job


@contextmanager
def _bar() -> Iterator[OnProgress]:
    """Show progress on standard error if it is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[phase]}"),
        BarColumn(),
        TextColumn("{task.fields[done]:,} of {task.fields[total_]}, {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, phase="Selecting", done=0, total_="?", rate=0.0)
        began = time.monotonic()

        def show(job: Job) -> None:
            progress = job.progress or {}
            is_writing = progress.get("phase") == "write"
            done = progress.get("written" if is_writing else "selected", 0)
            total = progress["selected"] if is_writing else None
            rate = done / max(time.monotonic() - began, 0.001)
            phase = "Writing" if is_writing else "Selecting"
            total_ = f"{total:,}" if total else "?"
            bar.update(task, total=total, completed=done, phase=phase, done=done, total_=total_, rate=rate)

        yield show


def print_outcome(job: Job, folder: Path | None = None) -> None:
    """Print how an export ended: its rows, splits and skip reasons, and its files; or the error.

    `folder`: where this command has written the files, or None if workers have written them.
    """
    if job.status != COMPLETED or job.result is None:
        ended = f"failed: {job.error['message']}" if job.error else f"was {job.status}."
        echo(f"Export {job.id} {ended}", "red", err=True)
        return
    counts = job.result["counts"]
    rows, snapshots = plural(counts["rows"], "row"), plural(counts["snapshots"], "snapshot")
    click.echo(f"Export {job.id}: {rows} from {snapshots}, format {job.result['format']}")
    for name, mine in job.result["splits"].items():
        click.echo(f"  {name}: {mine['snapshots']:,}")
    if counts["duplicates"]:
        click.echo(f"  duplicates left out: {counts['duplicates']:,}")
    for name, count in counts["skipped"].items():
        click.echo(f"  skipped {count:,}: {name}")
    for file in job.result["files"]:
        removed = f" (removed: {file['removed']})" if "removed" in file else ""
        click.echo(f"  {folder / file['name'] if folder else file['name']}{removed}")
