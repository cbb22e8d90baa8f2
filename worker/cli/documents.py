"""`snapshots show` and `snapshots delete`: one snapshot."""

from typing import Any

import click
from bson import ObjectId

from worker.cli.group import FAILED
from worker.cli.options import ObjectIdType, organization_option, yes_option
from worker.cli.shared import agrees, open_service, print_json
from worker.domain.requests import ACCEPTED
from worker.errors import Deleted, NotFound
from worker.service import Service
from worker.stores.queries import request_by_id, snapshot_by_id

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one line.")


@click.command()
@click.argument("snapshot", type=ObjectIdType(), metavar="ID")
@organization_option
@_json_option
def show(snapshot: ObjectId, organization: ObjectId | None, as_json: bool) -> None:
    """Show a snapshot: the whole document, by its id, which is its request's too.

    \b
    Example:
        snapshots show 6a1b2c3d4e5f60718293a4b5
        snapshots show 6a1b2c3d4e5f60718293a4b5 --json | jq -r '.messages[].content'
    """
    print_json(_find(open_service(), snapshot, organization), indent=None if as_json else 2)


def _find(service: Service, snapshot: ObjectId, organization: ObjectId | None) -> dict[str, Any]:
    """The document. Raises NotFound, with what the ledger knows of it."""
    if found := snapshot_by_id(service.connections, snapshot, organization):
        return found
    try:
        entry = request_by_id(service.connections, snapshot, organization)
    except NotFound:
        raise NotFound("There is no such snapshot.") from None
    if entry.get("deletedAt"):
        raise Deleted
    if entry["status"] == ACCEPTED:
        raise NotFound("The request is accepted; its snapshot is not made yet.", status=ACCEPTED)
    if "snapshotId" not in entry:
        raise NotFound("The request failed: there is no snapshot.", error=entry.get("error", {}).get("code"))
    if found := snapshot_by_id(service.connections, entry["snapshotId"], organization):
        return found
    raise NotFound("There is no such snapshot any more.")


@click.command()
@click.argument("snapshot", type=ObjectIdType(), metavar="ID")
@click.option("--organization", type=ObjectIdType(), required=True, help="Whose snapshot it is.")
@yes_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def delete(context: click.Context, snapshot: ObjectId, organization: ObjectId, yes: bool, as_json: bool) -> None:
    """Delete a snapshot for good; its request is not run again. Asks first on a terminal.

    \b
    Example:
        snapshots delete 6a1b2c3d4e5f60718293a4b5 --organization ID --yes
    """
    service = open_service()
    if not agrees(f"Delete snapshot {snapshot} for good?", yes):
        click.echo("Nothing was deleted.", err=True)
        context.exit(FAILED)
    service.delete(organization, snapshot)
    if as_json:
        print_json({"id": snapshot, "organizationId": organization, "deleted": True})
    else:
        click.echo(f"deleted {snapshot}")
