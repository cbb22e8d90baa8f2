"""`snapshots erase`: removes all data of a contact, checks receipts, and makes the key that signs them."""

import shlex
import time
from pathlib import Path
from typing import Any

import click
from bson import ObjectId

from worker.cli.group import FAILED, describe
from worker.cli.jobs import UNTAKEN_SECONDS, latest, untaken
from worker.cli.lines import echo, plural
from worker.cli.options import ObjectIdType, json_option, yes_option
from worker.cli.output_files import check_new_file, write_new_file
from worker.cli.shared import agrees, open_producer, open_service, print_json, program, resume_hint
from worker.erasure import receipt as receipts
from worker.erasure.accepting import NOTHING, accept_erasure, count_requests, find, lift
from worker.errors import InvalidRequest, NotFound
from worker.jobs.job import ACCEPTED, COMPLETED, Job
from worker.jobs.store import Jobs
from worker.settings import load

_PAUSE = 0.5


@click.group(invoke_without_command=True)
@click.option("--organization", type=ObjectIdType(), help="The contact's organization. Required.")
@click.option("--contact", type=ObjectIdType(), help="The contact. Required.")
@click.option("--dry-run", is_flag=True, help="Only count what would be removed.")
@click.option("--lift", "lifting", is_flag=True, help="Lift an erasure: accept requests for this contact again.")
@click.option(
    "--redact-mentions",
    is_flag=True,
    help="Also replace the contact's e-mail address and phone number in other people's snapshots.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A new file for the receipt.")
@click.option(
    "--timeout", type=click.FloatRange(0, 86_400), default=600.0, show_default=True, help="Maximum wait in seconds."
)
@yes_option
@json_option
@click.pass_context
def erase(
    context: click.Context,
    /,
    organization: ObjectId | None,
    contact: ObjectId | None,
    dry_run: bool,
    lifting: bool,
    redact_mentions: bool,
    output: Path | None,
    timeout: float,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase a contact from snapshots, requests, Redis and export files, permanently.

    An erasure is a durable job of the workers. It ends with a search of all data and a signed receipt. It waits about
    half a minute for work that was in progress when it began. The platform's own collections are not changed.

    The exit code is 0 once the erasure is verified, and 1 if it failed or is not finished in time, if a legal hold
    prevents it, or if the organization has no data of the contact.

    \b
    Example:
        snapshots erase --organization ID --contact ID --dry-run
        snapshots erase --organization ID --contact ID -o receipt.json
        snapshots erase verify receipt.json --key erasure.pub.pem
    """
    if context.invoked_subcommand is not None:
        return
    if organization is None or contact is None:
        raise click.UsageError("Missing option '--organization' or '--contact'.")
    if output:
        check_new_file(output)
    if dry_run:
        _count(organization, contact, as_json=as_json)
        return
    if lifting:
        lift(Jobs(open_service()), organization, contact)
        if as_json:
            print_json({"organizationId": organization, "contactId": contact, "lifted": True})
        else:
            click.echo("Requests for this contact are accepted again.")
        return
    if not agrees("Erase this contact? This cannot be undone.", yes):
        click.echo("Cancelled; nothing was erased.", err=True)
        context.exit(FAILED)
    jobs = Jobs(open_producer())
    job = accept_erasure(jobs, organization, contact, redact_mentions=redact_mentions)
    watch = f"{program()} erase show {job.id}"
    with resume_hint(f"The workers continue it. Watch it with: {watch}"):
        job = _wait(jobs, job, timeout, watch)
    if output and job.status == COMPLETED and job.result:
        write_new_file(output, receipts.encode(job.result["receipt"]))
    _print(job, as_json=as_json)
    context.exit(0 if job.status == COMPLETED else FAILED)


def _count(organization: ObjectId, contact: ObjectId, *, as_json: bool) -> None:
    service, person = open_service(), (organization, contact)
    found, requests = find(service, person), count_requests(service, person)
    if not (found.on_platform or found.snapshots or requests):
        raise NotFound(NOTHING)
    if as_json:
        print_json({"onPlatform": found.on_platform, "snapshots": found.snapshots, "requests": requests})
    else:
        snapshots = plural(found.snapshots, "snapshot")
        click.echo(f"{snapshots} and the content of {plural(requests, 'request')} would be removed")


def _wait(jobs: Jobs, job: Job, seconds: float, watch: str) -> Job:
    began, is_warned = time.monotonic(), False
    while not job.is_finished and time.monotonic() < began + seconds:
        time.sleep(_PAUSE)
        job = latest(jobs, job)
        if not is_warned and job.status == ACCEPTED and time.monotonic() > began + UNTAKEN_SECONDS:
            is_warned = True
            click.echo(untaken(job, watch), err=True)
    return job


def shown(job: Job) -> dict[str, Any]:
    """Return an erasure as a JSON object for `--json`."""
    return {
        "id": job.id,
        "organizationId": job.organization,
        "status": job.status,
        "progress": dict(job.progress or {}),
        "acceptedAt": job.accepted_at,
        "finishedAt": job.finished_at,
        "receipt": (job.result or {}).get("receipt"),
        "error": job.error,
    }


def _print(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(shown(job))
        return
    click.echo(f"erasure {job.id}: {job.status}")
    removed = (job.result or {}).get("receipt", {}).get("removed") or (job.progress or {}).get("removed") or {}
    for place, count in removed.items():
        click.echo(f"  {place}: {count:,}")
    receipt = (job.result or {}).get("receipt", {})
    for place, count in receipt.get("mentionsRedacted", {}).items():
        click.echo(f"  mentions redacted in {place}: {count:,}")
    for place, count in receipt.get("mentions", {}).items():
        click.echo(f"  mentioned in other people's {place}: {count:,}")
    if job.error:
        echo(f"Error: {describe(job.error)}", "red", err=True)
    elif not job.is_finished:
        text = f"Not finished yet. The workers continue it; show it again with: {program()} erase show {job.id}"
        click.echo(click.style(text, fg="yellow"), err=True)


@erase.command()
@click.argument("key", type=ObjectIdType(), metavar="ID")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A new file for the receipt.")
@json_option
def show(key: ObjectId, output: Path | None, as_json: bool) -> None:
    """Show an erasure; with -o, write its receipt to a new file.

    \b
    Example:
        snapshots erase show 6a1b2c3d4e5f60718293a4b5 -o receipt.json
    """
    if output:
        check_new_file(output)
    job = Jobs(open_service()).get(key, kind="erasure")
    if output:
        if job.result is None:
            raise NotFound(f"The erasure is {job.status}, so it has no receipt.")
        write_new_file(output, receipts.encode(job.result["receipt"]))
    _print(job, as_json=as_json)


@erase.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--key", "public", type=click.Path(path_type=Path), required=True, help="The public key, in PEM.")
@json_option
def verify(file: Path, public: Path, as_json: bool) -> None:
    """Check the signature of a receipt, without any server.

    \b
    Example:
        snapshots erase verify receipt.json --key erasure.pub.pem
    """
    receipt = receipts.check(file.read_bytes(), receipts.read_public_key(public))
    if as_json:
        print_json(receipt)
    else:
        click.echo(f"The receipt is genuine: erasure {receipt['erasureId']}, verified at {receipt['verifiedAt']}.")


@erase.command(short_help="Make the key that signs receipts, and its public key.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def keys(file: Path) -> None:
    """Make the key that signs receipts, and the public key beside it.

    \b
    Example:
        snapshots erase keys erasure.pem
    """
    try:
        public = receipts.make_keys(file)
    except FileExistsError as error:
        message = f"should be a new file, with a new one for the public key; {error.filename} exists"
        raise InvalidRequest([{"field": "file", "message": message}]) from None
    click.echo(f"Receipts are signed with {file}: export {receipts.VARIABLE}={shlex.quote(str(file.absolute()))}")
    click.echo(f"Verify receipts with {public}; give it to everyone who receives one.")


@erase.command("public-key", short_help="Print the public key that verifies receipts.")
def public_key() -> None:
    """Print the public key of the key that signs receipts, which SNAPSHOTS_ERASURE_SIGNING_KEY names.

    \b
    Example:
        snapshots erase public-key > erasure.pub.pem
    """
    click.echo(receipts.public_pem(receipts.signing_key(load())).decode(), nl=False)
