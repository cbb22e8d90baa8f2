"""`snapshots status`: outcomes, whether they add up, and what waits."""

from datetime import datetime
from typing import Any

import click
from bson import ObjectId
from rich.table import Table

from worker.cli.group import FAILED, describe
from worker.cli.options import json_option, organization_option
from worker.cli.shared import console, open_service, print_json
from worker.errors import BrokerUnavailable
from worker.service import Service
from worker.stores.stats import Backlog, Identity, as_fields, backlog, identities, oldest_request


@click.command()
@organization_option
@json_option
@click.pass_context
def status(context: click.Context, organization: ObjectId | None, as_json: bool) -> None:
    """Count outcomes by organization, all of one moment, queue lengths, and what has waited longest.

    The counts hold if accepted = completed + failed + in flight, and there are as many snapshots as were
    completed, without those deleted or unchanged. It ends with 1 if they do not, or if Redis is away.

    \b
    Example:
        snapshots status
        snapshots status --organization ID --json | jq .holds
    """
    service = open_service()
    counted = identities(service.connections, organization)
    since = oldest_request(service.connections, organization)
    broker_fault: BrokerUnavailable | None = None
    waiting = Backlog({}, {})
    try:
        waiting = backlog(service.connections)
    except BrokerUnavailable as error:
        broker_fault = error
    if as_json:
        fields = _as_fields(service, counted, since, waiting)
        print_json(fields | ({"error": broker_fault.outcome()} if broker_fault else {}))
    else:
        _print(service, counted, since, waiting)
    if broker_fault:
        click.secho(f"Error: {describe(broker_fault.outcome())}", fg="red", err=True)
    context.exit(FAILED if broker_fault or not _holds(counted) else 0)


def _holds(counted: list[Identity]) -> bool:
    return all(each.holds for each in counted)


def _age(service: Service, since: datetime | None) -> float | None:
    return None if since is None else round(max((service.clock.now() - since).total_seconds(), 0.0), 3)


def _as_fields(service: Service, counted: list[Identity], since: datetime | None, waiting: Backlog) -> dict[str, Any]:
    return {
        "holds": _holds(counted),
        "organizations": [as_fields(each) for each in counted],
        "queues": waiting.lengths,
        "oldestRequestSeconds": _age(service, since),
        "oldestMessageSeconds": {name: _age(service, stamp) for name, stamp in waiting.oldest.items()},
    }


def _print(service: Service, counted: list[Identity], since: datetime | None, waiting: Backlog) -> None:
    table = Table()
    table.add_column("organization", no_wrap=True)
    numbers = ("accepted", "completed", "failed", "in flight", "deleted", "unchanged", "snapshots")
    for name in numbers:
        table.add_column(name, justify="right")
    table.add_column("holds")
    for each in counted:
        counts = [getattr(each, name.replace(" ", "_")) for name in numbers]
        table.add_row(str(each.organization), *(f"{count:,}" for count in counts), "yes" if each.holds else "NO")
    out = console()
    out.print(table)
    queues = Table()
    queues.add_column("queue")
    queues.add_column("messages", justify="right")
    queues.add_column("oldest", justify="right")
    for name, length in waiting.lengths.items():
        queues.add_row(name, f"{length:,}", _said(_age(service, waiting.oldest.get(name))))
    if waiting.lengths:
        out.print(queues)
    click.echo(f"oldest request in flight: {_said(_age(service, since)) or 'none'}")


def _said(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f} s"
