"""`snapshots requests`: what is in the ledger, and failed requests tried again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from bson import ObjectId
from rich.table import Table

from worker.cli.group import FAILED
from worker.cli.options import (
    ObjectIdType,
    TextType,
    filter_options,
    json_option,
    organization_option,
    since_when,
    yes_option,
)
from worker.cli.shared import agrees, console, open_service, print_json
from worker.domain.requests import FAILED as FAILED_STATUS
from worker.service import Service
from worker.stores.queries import Filter, count_redrivable, list_requests, redrivable, request_by_id, request_by_key

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
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Requests at most.")
@click.option("--after", type=ObjectIdType(), help="Go on behind this id: the last of the page before.")
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
        snapshots requests list --organization ID --code empty_conversation --limit 10
        snapshots requests list --json | jq '.requests[].requestId'
    """
    service = open_service()
    which = _filter(service, organization, status, code, since)
    found, cursor = list_requests(service.connections, which, limit, after)
    if as_json:
        # Without notes: whoever wants those asks for one request.
        shown = [{name: each[name] for name in _LISTED if name in each} for each in found]
        print_json({"requests": shown, "next": cursor})
        return
    table = Table()
    for name in ("id", "organization", "request id", "status", "round", "code", "accepted"):
        table.add_column(name, no_wrap=name in {"id", "organization"})
    for each in found:
        accepted = f"{each['acceptedAt']:%Y-%m-%d %H:%M:%S}" if "acceptedAt" in each else ""
        failure = each.get("error", {}).get("code", "")
        ids = (str(each["_id"]), str(each["organizationId"]), each["requestId"])
        table.add_row(*ids, each["status"], str(each["round"]), failure, accepted)
    console().print(table)
    if cursor:
        click.echo(f"More: --after {cursor}", err=True)


@requests.command()
@click.argument("request", type=ObjectIdType(), required=False, metavar="[ID]")
@organization_option
@click.option("--request-id", type=TextType(), help="Instead of ID, with --organization.")
@click.option("--json", "as_json", is_flag=True, help="Print one line.")
def show(request: ObjectId | None, organization: ObjectId | None, request_id: str | None, as_json: bool) -> None:
    """Show a request, as it is in the ledger.

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
        raise click.UsageError("Missing option '--organization': a request id is known within one.")
    print_json(entry, indent=None if as_json else 2)


@requests.command()
@click.argument("ids", nargs=-1, type=ObjectIdType(), metavar="[ID]...")
@filter_options
@click.option("--dry-run", is_flag=True, help="Only count.")
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
    """Try failed requests again: those named, or those of a filter.

    Left out is what is not failed, whose event is not out yet, or which retention has stripped. Asks first
    on a terminal. It ends with 1 if some of the ids named were left out.

    \b
    Example:
        snapshots requests redrive 6a1b2c3d4e5f60718293a4b5
        snapshots requests redrive --organization ID --code contact_not_found --since 2h --dry-run
    """
    if status not in {None, FAILED_STATUS}:
        raise click.BadParameter("only failed requests can be redriven.", param_hint="'--status'")
    if not (ids or organization or status or code or since is not None):
        raise click.UsageError("Give IDs, or a filter: --organization, --status failed, --code, --since.")
    if ids and (code or since is not None):
        raise click.UsageError("Give IDs or a filter, not both.")
    service = open_service()
    which = _filter(service, organization, FAILED_STATUS, code, since)
    named = list(dict.fromkeys(ids))
    matching = count_redrivable(service.connections, which, named or None)
    redriven = 0
    if not dry_run:
        if not agrees(f"Redrive {matching:,} failed requests?", yes):
            click.echo("Nothing was redriven.", err=True)
            context.exit(FAILED)
        redriven = _redrive(service, which, named)
    left_out = len(named) - (matching if dry_run else redriven) if named else 0
    if as_json:
        print_json({"matching": matching, "redriven": redriven, "leftOut": left_out, "dryRun": dry_run})
    else:
        click.echo(f"{matching:,} to redrive" if dry_run else f"redriven {redriven:,}")
        if left_out:
            click.secho(
                f"left out {left_out:,}: not failed, unknown, or not to be redriven any more", fg="red", err=True
            )
    context.exit(FAILED if left_out else 0)


def _redrive(service: Service, which: Filter, named: Sequence[ObjectId]) -> int:
    return sum(len(service.redrive(batch)) for batch in redrivable(service.connections, which, _BATCH, named or None))


def _filter(
    service: Service,
    organization: ObjectId | None,
    status: str | None,
    code: str | None,
    since: datetime | timedelta | None,
) -> Filter:
    if code and status not in {None, FAILED_STATUS}:
        raise click.BadParameter("only failed requests have a code.", param_hint="'--code'")
    try:
        moment: Any = None if since is None else since_when(since, service.clock.now())
    except OverflowError:
        raise click.BadParameter("is too long ago.", param_hint="'--since'") from None
    return Filter(organization, status, code, moment)
