"""`snapshots show` and `snapshots delete`: show and delete one snapshot."""

from typing import Any

import click
from bson import ObjectId

from worker.cli.group import FAILED
from worker.cli.options import ObjectIdType, organization_option, yes_option
from worker.cli.shared import agrees, open_service, print_json
from worker.domain.ledger_entry import ACCEPTED
from worker.errors import NotFound, SnapshotDeleted
from worker.service import Service
from worker.stores.queries import request_by_id, snapshot_by_id

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")


@click.command()
@click.argument("snapshot", type=ObjectIdType(), metavar="ID")
@organization_option
@_json_option
def show(snapshot: ObjectId, organization: ObjectId | None, as_json: bool) -> None:
    """Show the document of a snapshot. A snapshot has the same id as its request.

    \b
    Example:
        snapshots show 6a1b2c3d4e5f60718293a4b5
        snapshots show 6a1b2c3d4e5f60718293a4b5 --json | jq '.messages[].content'
    """
    print_json(_find(open_service(), snapshot, organization), indent=None if as_json else 2)


def _find(service: Service, snapshot: ObjectId, organization: ObjectId | None) -> dict[str, Any]:
    """Return the document. Raises NotFound, which says what the ledger knows about the request."""
    if found := snapshot_by_id(service.connections, snapshot, organization):
        return found
    try:
        entry = request_by_id(service.connections, snapshot, organization)
    except NotFound:
        raise NotFound("There is no such snapshot.") from None
    if entry.get("deletedAt"):
        raise SnapshotDeleted
    if entry["status"] == ACCEPTED:
        raise NotFound("The request is accepted; its snapshot is not ready yet.", status=ACCEPTED)
    if "snapshotId" not in entry:
        raise NotFound("The request failed, so there is no snapshot.", error=entry.get("error", {}).get("code"))
    if found := snapshot_by_id(service.connections, entry["snapshotId"], organization):
        return found
    raise NotFound("The request is completed, but its snapshot no longer exists.")


@click.command()
@click.argument("snapshot", type=ObjectIdType(), metavar="ID")
@click.option("--organization", type=ObjectIdType(), required=True, help="The organization of the snapshot.")
@yes_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def delete(context: click.Context, snapshot: ObjectId, organization: ObjectId, yes: bool, as_json: bool) -> None:
    """Delete a snapshot permanently. Its request is not run again. Asks for confirmation on a terminal.

    \b
    Example:
        snapshots delete 6a1b2c3d4e5f60718293a4b5 --organization ID --yes
    """
    service = open_service()
    if not agrees(f"Delete snapshot {snapshot} permanently?", yes):
        click.echo("Cancelled; nothing was deleted.", err=True)
        context.exit(FAILED)
    service.delete(organization, snapshot)
    if as_json:
        print_json({"id": snapshot, "organizationId": organization, "deleted": True})
    else:
        click.echo(f"deleted {snapshot}")
