"""`snapshots requests`: lists and shows requests, and redrives failed ones."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from bson import ObjectId

from worker.cli.group import FAILED
from worker.cli.lines import echo, plural, utc
from worker.cli.options import (
    ObjectIdType,
    TextType,
    filter_options,
    json_option,
    organization_option,
    since_when,
    yes_option,
)
from worker.cli.shared import agrees, open_service, print_json
from worker.cli.tables import print_table
from worker.domain.ledger_entry import FAILED as FAILED_STATUS
from worker.domain.ledger_entry import LedgerEntry
from worker.service import Service
from worker.stores.queries import (
    RequestFilter,
    count_redrivable,
    list_requests,
    redrivable,
    request_by_id,
    request_by_key,
)

_BATCH = 500
_LISTED = (
    *("_id", "organizationId", "requestId", "contactId", "conversationId", "trigger", "status", "round"),
    *("snapshotId", "error", "acceptedAt", "finishedAt", "deletedAt"),
)


@click.group()
def requests() -> None:
    """List, show and redrive requests.

    \b
    Example:
        snapshots requests list --status failed --since 2h
        snapshots requests redrive --code contact_not_found --since 1d
    """


@requests.command("list")
@filter_options
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of requests."
)
@click.option("--after", type=ObjectIdType(), help="Continue after this id, the last one of the previous page.")
@json_option
def list_(
    organization: ObjectId | None,
    status: str | None,
    code: str | None,
    since: datetime | timedelta | None,
    limit: int,
    after: ObjectId | None,
    as_json: bool,
) -> None:
    """List requests, newest first.

    \b
    Example:
        snapshots requests list --organization ID --code empty_conversation
        snapshots requests list --json | jq '.requests[].requestId'
    """
    service = open_service()
    which = _filter(service, organization, status, code, since)
    found, cursor = list_requests(service.connections, which, limit, after)
    if as_json:
        # Notes are left out here; `requests show` prints them.
        shown = [{name: value for name, value in each.items() if name in _LISTED} for each in found]
        print_json({"requests": shown, "next": cursor})
        return
    columns = ("id", "organization", "request id", "status", "round", "code", "accepted (UTC)")
    print_table(columns, map(_row, found), "There are no such requests.")
    if cursor:
        click.echo(f"For more, add --after {cursor}", err=True)


def _row(entry: LedgerEntry) -> tuple[str, ...]:
    failure = entry["error"]["code"] if "error" in entry else ""
    ids = (str(entry["_id"]), str(entry["organizationId"]), entry["requestId"])
    return (*ids, entry["status"], str(entry["round"]), failure, utc(entry.get("acceptedAt")))


@requests.command()
@click.argument("request", type=ObjectIdType(), required=False, metavar="[ID]")
@organization_option
@click.option("--request-id", type=TextType(), help="Find the request by its idempotency key; needs --organization.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def show(request: ObjectId | None, organization: ObjectId | None, request_id: str | None, as_json: bool) -> None:
    """Show a request as it is in the ledger.

    \b
    Example:
        snapshots requests show 6a1b2c3d4e5f60718293a4b5
        snapshots requests show --organization ID --request-id order-17
    """
    if (request is None) == (request_id is None):
        raise click.UsageError("Give an ID, or --organization and --request-id.")
    connections = open_service().connections
    if request is not None:
        entry = request_by_id(connections, request, organization)
    elif organization is not None and request_id is not None:
        entry = request_by_key(connections, organization, request_id)
    else:
        raise click.UsageError("Missing option '--organization': request ids are unique within an organization.")
    print_json(entry, indent=None if as_json else 2)


@requests.command()
@click.argument("ids", nargs=-1, type=ObjectIdType(), metavar="[ID]...")
@filter_options
@click.option("--dry-run", is_flag=True, help="Only count the requests.")
@yes_option
@json_option
@click.pass_context
def redrive(
    context: click.Context,
    ids: tuple[ObjectId, ...],
    organization: ObjectId | None,
    status: str | None,
    code: str | None,
    since: datetime | timedelta | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Retry failed requests, given by id or by a filter.

    Requests that have not failed, whose event has not been emitted yet, or that retention has stripped are
    skipped. Asks for confirmation on a terminal. The exit code is 1 if an id was skipped.

    \b
    Example:
        snapshots requests redrive 6a1b2c3d4e5f60718293a4b5
        snapshots requests redrive --code contact_not_found --since 2h --dry-run
    """
    if status not in {None, FAILED_STATUS}:
        raise click.BadParameter("Only failed requests can be redriven.", param_hint="'--status'")
    if not (ids or organization or status or code or since is not None):
        raise click.UsageError("Give ids or a filter: --organization, --status failed, --code or --since.")
    if ids and (code or since is not None):
        raise click.UsageError("Give ids or a filter, not both.")
    service = open_service()
    which = _filter(service, organization, FAILED_STATUS, code, since)
    named = list(dict.fromkeys(ids))
    matching = count_redrivable(service.connections, which, named or None)
    redriven = 0
    if not dry_run:
        if not agrees(f"Redrive {plural(matching, 'failed request')}?", yes):
            click.echo("Cancelled; nothing was redriven.", err=True)
            context.exit(FAILED)
        redriven = _redrive(service, which, named)
    skipped = len(named) - (matching if dry_run else redriven) if named else 0
    if as_json:
        print_json({"matching": matching, "redriven": redriven, "leftOut": skipped, "dryRun": dry_run})
    else:
        click.echo(f"{plural(matching, 'request')} would be redriven" if dry_run else f"redriven {redriven:,}")
        if skipped:
            echo(
                f"skipped {skipped:,}: unknown, not failed, event not sent yet, or stripped",
                "red",
                err=True,
            )
    context.exit(FAILED if skipped else 0)


def _redrive(service: Service, which: RequestFilter, named: Sequence[ObjectId]) -> int:
    return sum(len(service.redrive(batch)) for batch in redrivable(service.connections, which, _BATCH, named or None))


def _filter(
    service: Service,
    organization: ObjectId | None,
    status: str | None,
    code: str | None,
    since: datetime | timedelta | None,
) -> RequestFilter:
    if code and status not in {None, FAILED_STATUS}:
        raise click.BadParameter("Only failed requests have a code.", param_hint="'--code'")
    try:
        moment: Any = None if since is None else since_when(since, service.clock.now())
    except OverflowError:
        raise click.BadParameter("The time is too far in the past.", param_hint="'--since'") from None
    return RequestFilter(organization, status, code, moment)
