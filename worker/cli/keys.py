"""`snapshots keys`: creates, lists and revokes integration keys for the HTTP API."""

from datetime import datetime, timedelta
from typing import Any

import click
from bson import ObjectId

from worker.api.keys import Keys
from worker.api.roles import WORKING
from worker.api.tokens import Caller
from worker.cli.lines import utc
from worker.cli.options import ObjectIdType, TextType, json_option, organization_option
from worker.cli.shared import open_service, print_json
from worker.cli.tables import print_table
from worker.domain.json_values import render

_ROLES = sorted(WORKING | {"VIEWER"})


@click.group(no_args_is_help=True)
def keys() -> None:
    """Create, list and revoke integration keys: API tokens for programs, which begin with user_.

    \b
    Example:
        snapshots keys create --organization ID --user ID --expires-in-days 90
    """


@keys.command()
@click.option(
    "--organization", type=ObjectIdType(), required=True, help="The organization whose snapshots it can access."
)
@click.option("--user", type=ObjectIdType(), required=True, help="The user on whose behalf it acts.")
@click.option(
    "--role",
    type=click.Choice(_ROLES, case_sensitive=False),
    default="USER",
    show_default=True,
    help="What the key may do, as described above.",
)
@click.option(
    "--expires-in-days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Days until it expires."
)
@click.option("--name", type=TextType(), help="What the key is for, as shown by `snapshots keys list`.")
@click.option("--operator", is_flag=True, help="With --role ADMIN: show all organizations on the operations pages.")
@json_option
def create(
    organization: ObjectId,
    user: ObjectId,
    role: str,
    expires_in_days: int,
    name: str | None,
    operator: bool,
    as_json: bool,
) -> None:
    """Create a key and print it. It cannot be shown again: only its hash is stored.

    A VIEWER can only read. USER, MEMBER, AGENT and SUPERVISOR can also create and edit; MANAGER, OWNER, ADMIN and
    SUPER_ADMIN can also delete and export. Only an ADMIN key opens the operations pages.

    \b
    Example:
        snapshots keys create --organization ID --user ID --name nightly
    """
    if operator and role.upper() != "ADMIN":
        raise click.UsageError("--operator needs --role ADMIN.")
    service = open_service()
    expires_at: datetime = service.clock.now() + timedelta(days=expires_in_days)
    key, document = Keys(service.connections).create(
        Caller(organization, user, role.upper(), operator), expires_at, name
    )
    if as_json:
        print_json({"key": key, **_shown(document)})
    else:
        click.echo(key)
        click.echo(f"id {document['_id']}, expires {utc(expires_at)} UTC", err=True)
        click.echo("Store the key now: it is not shown again.", err=True)


@keys.command("list")
@organization_option
@json_option
def list_keys(organization: ObjectId | None, as_json: bool) -> None:
    """List keys, newest first. Only the beginning of each key is shown.

    \b
    Example:
        snapshots keys list --organization ID
    """
    found = [_shown(each) for each in Keys(open_service().connections).list(organization)]
    if as_json:
        print_json(found)
        return
    rows = []
    for each in found:
        row = [each[name] for name in ("id", "begins", "organizationId", "userId", "accessRole")]
        row += ["yes" if each["operator"] else "", each["name"]]
        dates = (utc(each[name]) for name in ("expiresAt", "revokedAt"))
        rows.append([*(str(render(value) or "") for value in row), *dates])
    columns = ("id", "begins", "organization", "user", "role", "operator", "name", "expires (UTC)", "revoked (UTC)")
    print_table(columns, rows, "There are no keys.")


@keys.command()
@click.argument("key", type=ObjectIdType(), metavar="ID")
@json_option
def revoke(key: ObjectId, as_json: bool) -> None:
    """Revoke a key by its id. It stops working within 5 seconds.

    \b
    Example:
        snapshots keys revoke 6a1b2c3d4e5f60718293a4b5
    """
    document = Keys(open_service().connections).revoke(key)
    if as_json:
        print_json(_shown(document))
    else:
        click.echo(f"revoked {key}")


def _shown(document: Any) -> dict[str, Any]:
    names = ("begins", "organizationId", "userId", "accessRole", "name", "createdAt", "expiresAt", "revokedAt")
    shown = {"id": document["_id"], **{name: document[name] for name in names}}
    return shown | {"operator": document.get("operator", False)}
