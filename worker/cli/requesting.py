"""`snapshots request`: one request, or one for every conversation of an organization."""

import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import click
from bson import ObjectId

from worker.cli.backfill import run_backfill
from worker.cli.group import FAILED, describe
from worker.cli.options import ObjectIdType, json_option
from worker.cli.shared import open_service, print_json
from worker.domain.requests import ACCEPTED, COMPLETED, SnapshotRequest
from worker.errors import Refused, StoreUnavailable
from worker.service import Asked, Receipt, Service
from worker.source.ownership import read_parents
from worker.stores.queries import request_by_key

_WAIT_SECONDS, _WAIT_FOR_ALL_SECONDS = 60.0, 3600.0
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
@click.option("--organization", type=ObjectIdType(), required=True, help="Whose contact and conversation these are.")
@click.option("--contact", "contact_id", type=ObjectIdType(), help="Whose messages; required without --all.")
@click.option("--conversation", "conversation_id", type=ObjectIdType(), help="Only the messages of this conversation.")
@click.option("--message", "message_ids", type=ObjectIdType(), multiple=True, help="Only this message; repeatable.")
@click.option("--user", "user_id", type=ObjectIdType(), help="Who asks.")
@click.option("--notes", help="Free text.")
@click.option("--tag", "tags", multiple=True, help="A tag; repeatable.")
@click.option("--quality", help="Such as good, bad.")
@click.option("--category", help="Such as billing.")
@click.option("--request-id", help="Names this request: repeated, it is the same request. Made up if left out.")
@click.option("--wait", is_flag=True, help="Wait for the outcome.")
@click.option("--all", "every", is_flag=True, help="One request for each conversation; waits for all of them.")
@click.option("--chunk", type=click.IntRange(1, 500), help="With --all: requests that go together.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400),
    help=f"Seconds to wait at most. [{_WAIT_SECONDS:g}; with --all {_WAIT_FOR_ALL_SECONDS:g}]",
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

    Once this ends with 0 the request is durable, also while Redis is down. With --wait it ends with 1 if the
    request fails or is not finished in time.

    \b
    Example:
        snapshots request --organization ID --contact ID --conversation ID --tag refund --quality good --wait
        snapshots request --organization ID --all --category backfill

    With --all the request ids are `all:<conversation>`, so that running it again asks for nothing twice. It ends
    with 0 once each has its outcome, a snapshot or a failure, and with 1 if it could not ask for some, or not all
    are finished in time.
    """
    fields = {_FIELDS[name]: _plain(value) for name, value in given.items() if value not in {None, ()}}
    if every:
        if wrong := [name for name in _ONLY_FOR_ONE if (wait if name == "wait" else given[name])]:
            options = {option.name: option.opts[0] for option in context.command.params}
            raise click.UsageError(f"{', '.join(options[name] for name in wrong)}: not with --all.")
        seconds = _WAIT_FOR_ALL_SECONDS if timeout is None else timeout
        context.exit(run_backfill(organization, fields, chunk, seconds, as_json=as_json))
    if given["contact_id"] is None:
        raise click.UsageError("Missing option '--contact' (or --all).")
    if chunk is not None:
        raise click.UsageError("--chunk: only with --all.")
    service = open_service()
    receipt = _submit(service, {**fields, "organizationId": organization})
    if not wait:
        _print_receipt(receipt, as_json)
        return
    entry = _wait(service, receipt, _WAIT_SECONDS if timeout is None else timeout)
    _print_outcome(receipt, entry, as_json)
    context.exit(0 if entry["status"] == COMPLETED else FAILED)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _submit(service: Service, body: Mapping[str, Any]) -> Receipt:
    """Accepts and enqueues; an unknown contact or conversation is refused before."""
    asked_for = SnapshotRequest.read(body, service.settings)
    # Before it is sent, so that whoever tries again after an unknown answer can name it.
    request_id = asked_for.request_id or uuid4().hex
    entry = asked_for.body()
    fault = read_parents(service.connections, [entry]).check(entry)
    if fault and not _is_known(service, asked_for.organization_id, request_id):
        raise fault
    return service.submit(Asked(asked_for, request_id, "client"))


def _is_known(service: Service, organization: ObjectId, request_id: str) -> bool:
    """A request of before stays the answer, whatever became of its contact."""
    try:
        request_by_key(service.connections, organization, request_id)
    except Refused:
        return False
    return True


def _wait(service: Service, receipt: Receipt, seconds: float) -> Mapping[str, Any]:
    """The ledger entry once it is finished, or as it is at the end of the time."""
    entry = receipt.entry
    stop_at = time.monotonic() + seconds
    pause = 0.02
    while entry["status"] == ACCEPTED and (left := stop_at - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, 0.5)
        try:
            entry = service.ledger.load([receipt.id])[0]
        except StoreUnavailable:
            continue  # the request is durable: what is awaited may still come
    return entry


def _print_receipt(receipt: Receipt, as_json: bool) -> None:
    """The same for each caller of a request id, whoever was first."""
    if as_json:
        print_json(_named(receipt))
    else:
        click.echo(f"accepted {receipt.id}, request id {receipt.request_id}")


def _named(receipt: Receipt) -> dict[str, Any]:
    return {"id": receipt.id, "organizationId": receipt.organization_id, "requestId": receipt.request_id}


def _print_outcome(receipt: Receipt, entry: Mapping[str, Any], as_json: bool) -> None:
    status = entry["status"]
    outcome = {name: entry[name] for name in ("snapshotId", "error") if name in entry}
    if as_json:
        print_json({**_named(receipt), "status": status, **outcome})
        return
    match status:
        case "completed":
            click.echo(f"completed {receipt.id}, snapshot {entry['snapshotId']}, request id {receipt.request_id}")
        case "failed":
            click.echo(f"failed {receipt.id}, request id {receipt.request_id}")
            click.secho(f"Error: {describe(entry.get('error') or _FORGOTTEN)}", fg="red", err=True)
        case _:
            click.echo(f"accepted {receipt.id}, request id {receipt.request_id}")
            later = f"snapshots requests show {receipt.id}"
            click.secho(f"Not finished in time; it stays accepted. Look later: {later}", fg="yellow", err=True)


_FORGOTTEN = {"code": "failed", "message": "It failed long ago; the reason is no longer kept.", "details": {}}
