"""`snapshots exports`: lists, shows, verifies, rebuilds and cancels exports."""

from pathlib import Path

import click
from bson import ObjectId

from worker.cli.group import FAILED
from worker.cli.jobs import JobCommands, add_job_commands
from worker.cli.lines import echo, plural
from worker.cli.options import json_option
from worker.cli.output_files import new_folder
from worker.cli.shared import open_service, print_json
from worker.errors import NotFound
from worker.exports.destination import Destination
from worker.exports.leftovers import owned, remove_leftovers
from worker.exports.places import open_destination, open_folder
from worker.exports.showing import shown
from worker.exports.verifying import Rebuild, verify
from worker.jobs.job import COMPLETED, Job
from worker.jobs.store import Jobs
from worker.service import Service


@click.group()
def exports() -> None:
    """List, show, verify, rebuild and cancel exports.

    \b
    Example:
        snapshots exports list --organization ID
        snapshots exports verify training
    """


def _count(job: Job) -> tuple[str, str]:
    progress = job.progress or {}
    done = f"{progress.get('written', 0):,} of {progress['selected']:,}" if "selected" in progress else ""
    return str(job.spec.get("format", "")), done


add_job_commands(exports, JobCommands("export", shown, ("format", "progress"), _count, (), "Its files are removed."))


@exports.command("verify")
@click.argument("export", metavar="ID|FOLDER")
@json_option
@click.pass_context
def verify_(context: click.Context, /, export: str, as_json: bool) -> None:
    """Compare the files of an export with its manifest. The exit code is 1 if one differs.

    \b
    Example:
        snapshots exports verify training
    """
    source = _find(None if Path(export).is_dir() else open_service(), export)
    result = verify(source)
    if as_json:
        print_json({"checked": result.checked, "faults": result.faults})
    else:
        click.echo(f"{plural(result.checked, 'file')} checked, {plural(len(result.faults), 'fault')}")
        for path, fault in result.faults.items():
            echo(f"  {path} {fault}", "red")
    context.exit(FAILED if result.faults else 0)


@exports.command(short_help="Rebuild the files of an export byte for byte.")
@click.argument("export", metavar="ID|FOLDER")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new folder.")
@json_option
@click.pass_context
def rebuild(context: click.Context, /, export: str, output: Path, as_json: bool) -> None:
    """Rebuild the files of an export byte for byte, or list the snapshots that were deleted or edited since.

    Files that an erasure has removed are written without the snapshots of the person. The exit code is 1 if the bytes
    would differ; then nothing is written.

    \b
    Example:
        snapshots exports rebuild training -o again
    """
    service = open_service()
    folder = new_folder(output)
    again = Rebuild(service, _find(service, export))
    key = ObjectId()
    remove_leftovers(folder.parent)
    target = open_folder(folder, key)
    with owned(folder.parent, key):
        try:
            different = again(target)
        finally:
            target.remove_staging()
    if as_json:
        print_json({"rebuilt": None if different else str(output), "different": list(different)})
        context.exit(FAILED if different else 0)
    for path in different:
        echo(f"{path} would differ from the original file", "red", err=True)
    if not different:
        is_smaller = bool(again.manifest.stale)
        difference = "without the snapshots that were removed since" if is_smaller else "identical to the original"
        click.echo(f"Rebuilt in {output}, {difference}.")
    context.exit(FAILED if different else 0)


def _find(service: Service | None, export: str) -> Destination:
    if Path(export).is_dir() or service is None:
        return open_folder(Path(export).absolute(), ObjectId())
    if not ObjectId.is_valid(export):
        raise NotFound(f"{export} is neither a folder nor the id of an export.")
    job = Jobs(service).get(ObjectId(export), kind="export")
    if job.is_local:
        raise NotFound(f"Export {job.id} was written by a command: give its folder instead of its id.")
    if job.status != COMPLETED:
        raise NotFound(f"Export {job.id} has no files: its status is {job.status}.")
    return open_destination(service.settings, job.id)
