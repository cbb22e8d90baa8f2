"""`snapshots status`: shows outcomes by organization, whether they add up, and waiting times."""

from datetime import datetime
from typing import Any

import click
from bson import ObjectId

from worker.cli.group import FAILED, USAGE_ERROR, describe
from worker.cli.lines import echo
from worker.cli.options import json_option, organization_option
from worker.cli.shared import open_service, print_json
from worker.cli.tables import print_table
from worker.errors import BrokerUnavailable, SnapshotError, UnusableServer
from worker.service import Service
from worker.startup import redis_check
from worker.stores.counts import Totals, totals
from worker.stores.stats import Backlog, Identity, as_fields, backlog, oldest_request, sum_of, worst_first

_NUMBERS = ("accepted", "completed", "failed", "in flight", "deleted", "unchanged", "snapshots")
_MAX_ROWS = 100


@click.command()
@organization_option
@json_option
@click.pass_context
def status(context: click.Context, organization: ObjectId | None, as_json: bool) -> None:
    """Show consistent counts by organization, queue lengths and the longest waits.

    The counts hold if accepted = completed + failed + in flight, and if each completed request has its snapshot,
    except for requests whose snapshot was deleted or which found an earlier one unchanged. The exit code is 1 if the
    counts do not hold or Redis is unavailable, and 2 if waiting will not make Redis usable.

    \b
    Example:
        snapshots status
        snapshots status --organization ID --json | jq .holds
    """
    service = open_service()
    counts = totals(service.connections, organization)
    counted = counts.identities
    since = oldest_request(service.connections, organization)
    broker_fault: SnapshotError | None = None
    waiting = Backlog({}, {})
    try:
        redis_check.check(service.connections.settings)  # the error names the address as well
        waiting = backlog(service.connections)
    except (BrokerUnavailable, UnusableServer) as error:
        broker_fault = error
    if as_json:
        fields = _as_fields(service, counts, since, waiting)
        print_json(fields | ({"error": broker_fault.outcome()} if broker_fault else {}))
    else:
        _print(service, counts, since, waiting)
    if broker_fault:
        echo(f"Error: {describe(broker_fault.outcome())}", "red", err=True)
    if isinstance(broker_fault, UnusableServer):
        context.exit(USAGE_ERROR)
    context.exit(FAILED if broker_fault or not _holds(counted) else 0)


def _holds(counted: list[Identity]) -> bool:
    return all(each.holds for each in counted)


def _age(service: Service, since: datetime | None) -> float | None:
    return None if since is None else round(max((service.clock.now() - since).total_seconds(), 0.0), 3)


def _as_fields(service: Service, counts: Totals, since: datetime | None, waiting: Backlog) -> dict[str, Any]:
    return {
        "holds": _holds(counts.identities),
        "organizations": [as_fields(each) for each in counts.identities],
        "verifiedSeconds": _age(service, counts.verified_since) or 0.0,
        "mismatches": counts.mismatches,
        "queues": waiting.lengths,
        "oldestRequestSeconds": _age(service, since),
        "oldestMessageSeconds": {name: _age(service, stamp) for name, stamp in waiting.oldest.items()},
    }


def _print(service: Service, counts: Totals, since: datetime | None, waiting: Backlog) -> None:
    rows = []
    shown = counts.identities
    if (more := len(shown) - _MAX_ROWS) > 0:
        shown = worst_first(shown)[:_MAX_ROWS]
        rows.append(("all", *_numbers(sum_of(counts.identities)), "yes" if _holds(counts.identities) else "NO"))
    rows += [(str(each.organization), *_numbers(each), "yes" if each.holds else "NO") for each in shown]
    print_table(("organization", *_NUMBERS, "adds up"), rows, "There are no requests.", _NUMBERS)
    if more > 0:
        click.echo(f"and {more:,} more organizations; --json shows them")
    if waiting.lengths:
        queues = [
            (name, f"{length:,}", _format_seconds(_age(service, waiting.oldest.get(name))))
            for name, length in waiting.lengths.items()
        ]
        print_table(("queue", "messages", "oldest"), queues, "", ("messages", "oldest"))
    if counts.verified_since:
        ago = _format_seconds(_age(service, counts.verified_since))
        click.echo(f"All organizations were compared with the ledger within the last {ago}.")
    click.echo(f"oldest request in flight: {_format_seconds(_age(service, since)) or 'none'}")


def _numbers(counted: Identity) -> list[str]:
    return [f"{getattr(counted, name.replace(' ', '_')):,}" for name in _NUMBERS]


def _format_seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f} s"
