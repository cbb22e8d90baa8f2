"""`snapshots request`: requests one snapshot, or one of every conversation of an organization."""

import shlex
import time
from typing import Any
from uuid import uuid4

import click
from bson import ObjectId

from worker.cli.backfilling import WAIT_SECONDS, run_backfill
from worker.cli.group import FAILED, describe
from worker.cli.lines import echo
from worker.cli.options import ObjectIdType, json_option
from worker.cli.shared import open_producer, print_json, program, resume_hint
from worker.domain.ledger_entry import ACCEPTED, COMPLETED, LedgerEntry
from worker.domain.requests import SnapshotRequest
from worker.errors import Refused, StoreUnavailable
from worker.service import NewRequest, Receipt, Service
from worker.source.ownership import read_parents
from worker.stores.queries import request_by_key

_WAIT_SECONDS = 60.0
_ONLY_FOR_ONE = ("contact_id", "conversation_id", "message_ids", "request_id", "wait")
_FIELDS = {
    "contact_id": "contactId",
    "conversation_id": "conversationId",
    "message_ids": "messageIds",
    "user_id": "userId",
    "notes": "notes",
    "tags": "tags",
    "quality": "quality",
    "category": "category",
    "request_id": "requestId",
}


@click.command()
@click.option("--organization", type=ObjectIdType(), required=True, help="The organization of the contact.")
@click.option("--contact", "contact_id", type=ObjectIdType(), help="The contact; required without --all.")
@click.option("--conversation", "conversation_id", type=ObjectIdType(), help="Only the messages of this conversation.")
@click.option("--message", "message_ids", type=ObjectIdType(), multiple=True, help="Only this message. Repeatable.")
@click.option("--user", "user_id", type=ObjectIdType(), help="The user who requests the snapshot.")
@click.option("--notes", help="Free-text notes.")
@click.option("--tag", "tags", multiple=True, help="A tag. Repeatable.")
@click.option("--quality", help="The quality, such as good or bad.")
@click.option("--category", help="The category, such as billing.")
@click.option("--request-id", help="Idempotency key. Generated if omitted.")
@click.option("--wait", is_flag=True, help="Wait for the outcome.")
@click.option("--all", "every", is_flag=True, help="Request a snapshot of every conversation and wait for all of them.")
@click.option("--chunk", type=click.IntRange(1, 500), help="With --all: requests per Celery message.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400),
    help=f"Maximum wait in seconds. [default: {_WAIT_SECONDS:g}; with --all {WAIT_SECONDS:g}]",
)
@json_option
@click.pass_context
def request(
    context: click.Context,
    /,
    organization: ObjectId,
    every: bool,
    chunk: int | None,
    timeout: float | None,
    wait: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Request a snapshot of a contact's messages, or one of every conversation.

    Exit code 0 means that the request is durable, even if Redis is down. With --wait the exit code is 1 if the
    request fails or does not finish in time.

    \b
    Example:
        snapshots request --organization ID --contact ID --tag refund --wait
        snapshots request --organization ID --all --category backfill

    --all is the same as `snapshots backfill`, which can also select conversations: see its help.
    """
    fields = {_FIELDS[name]: _as_list(value) for name, value in given.items() if value not in {None, ()}}
    if every:
        if wrong := [name for name in _ONLY_FOR_ONE if (wait if name == "wait" else given[name])]:
            options = {option.name: option.opts[0] for option in context.command.params}
            raise click.UsageError(f"{', '.join(options[name] for name in wrong)} cannot be combined with --all.")
        seconds = WAIT_SECONDS if timeout is None else timeout
        context.exit(run_backfill(organization, fields, chunk, seconds, as_json=as_json))
    if given["contact_id"] is None:
        raise click.UsageError("Missing option '--contact' or '--all'.")
    if chunk is not None:
        raise click.UsageError("--chunk needs --all.")
    service = open_producer()
    snapshot_request = SnapshotRequest.read({**fields, "organizationId": organization}, service.settings)
    # Generated before the request is sent, so that an error or Ctrl-C can name it for a retry.
    request_id = snapshot_request.request_id or uuid4().hex
    hint = f"It is unknown whether the request was accepted; repeat it with --request-id {shlex.quote(request_id)}"
    with resume_hint(hint):
        receipt = _submit(service, snapshot_request, request_id)
    if not wait:
        _print_receipt(receipt, as_json)
        return
    with resume_hint(f"The request stays accepted; check it with: {_show_command(receipt)}"):
        entry = _wait(service, receipt, _WAIT_SECONDS if timeout is None else timeout)
    _print_outcome(receipt, entry, as_json)
    context.exit(0 if entry["status"] == COMPLETED else FAILED)


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _submit(service: Service, snapshot_request: SnapshotRequest, request_id: str) -> Receipt:
    """Accept and enqueue a request. An unknown contact or conversation is refused before acceptance."""
    entry = snapshot_request.body()
    fault = read_parents(service.connections, [entry]).check(entry)
    if fault and not _is_known(service, snapshot_request.organization_id, request_id):
        raise fault
    return service.submit(NewRequest(snapshot_request, request_id, "client"))


def _is_known(service: Service, organization: ObjectId, request_id: str) -> bool:
    """Return whether the request id was used before.

    Then the receipt of that request is returned, even if its contact no longer exists.
    """
    try:
        request_by_key(service.connections, organization, request_id)
    except Refused:
        return False
    return True


def _wait(service: Service, receipt: Receipt, seconds: float) -> LedgerEntry:
    """Return the ledger entry once it is finished, or unfinished when the time is up."""
    entry = receipt.entry
    stop_at = time.monotonic() + seconds
    pause = 0.02
    while entry["status"] == ACCEPTED and (left := stop_at - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, 0.5)
        try:
            entry = service.ledger.load([receipt.id])[0]
        except StoreUnavailable:
            continue  # the request is durable and may still finish
    return entry


def _print_receipt(receipt: Receipt, as_json: bool) -> None:
    """Print the same receipt for the first call with a request id and for every repeat."""
    if as_json:
        print_json(_receipt_fields(receipt))
    else:
        echo(f"accepted {receipt.id}, request id {receipt.request_id}")


def _receipt_fields(receipt: Receipt) -> dict[str, Any]:
    return {"id": receipt.id, "organizationId": receipt.organization_id, "requestId": receipt.request_id}


def _show_command(receipt: Receipt) -> str:
    return f"{program()} requests show {receipt.id}"


def _print_outcome(receipt: Receipt, entry: LedgerEntry, as_json: bool) -> None:
    status = entry["status"]
    outcome = {name: entry[name] for name in ("snapshotId", "error") if name in entry}
    if as_json:
        print_json({**_receipt_fields(receipt), "status": status, **outcome})
        return
    match status:
        case "completed":
            echo(f"completed {receipt.id}, snapshot {entry['snapshotId']}, request id {receipt.request_id}")
        case "failed":
            echo(f"failed {receipt.id}, request id {receipt.request_id}")
            echo(f"Error: {describe(entry.get('error') or _FORGOTTEN)}", "red", err=True)
        case _:
            echo(f"accepted {receipt.id}, request id {receipt.request_id}")
            command = _show_command(receipt)
            text = f"Not finished in time. The request stays accepted; check it with: {command}"
            click.echo(click.style(text, fg="yellow"), err=True)  # on one line, so that the command can be pasted


_FORGOTTEN = {
    "code": "failed",
    "message": "The request failed; the reason is no longer stored (SNAPSHOTS_LEDGER_RETENTION).",
    "details": {},
}
