"""`snapshots hold`: sets, lists and lifts legal holds, which keep a contact from being erased."""

from datetime import datetime, timedelta

import click
from bson import ObjectId

from worker.cli.lines import utc
from worker.cli.options import ObjectIdType, SinceType, TextType, json_option, organization_option
from worker.cli.shared import open_service, print_json
from worker.cli.tables import print_table
from worker.erasure.holds import Holds
from worker.errors import InvalidRequest

_organization = click.option("--organization", type=ObjectIdType(), required=True, help="The contact's organization.")
_contact = click.option("--contact", type=ObjectIdType(), required=True, help="The contact.")


@click.group()
def hold() -> None:
    """Set, list and lift legal holds. A contact with a hold cannot be erased until it ends.

    \b
    Example:
        snapshots hold list
    """


@hold.command("set")
@_organization
@_contact
@click.option("--reason", type=TextType(), required=True, help="The reason, such as a case number.")
@click.option(
    "--until",
    type=SinceType(),
    required=True,
    metavar="TIME|DURATION",
    help="When the hold ends: a time such as 2027-05-18T00:00:00Z, or a duration from now such as 90d.",
)
@json_option
def set_(organization: ObjectId, contact: ObjectId, reason: str, until: datetime | timedelta, as_json: bool) -> None:
    """Set or replace the hold on a contact.

    \b
    Example:
        snapshots hold set --organization ID --contact ID --reason C17 --until 90d
    """
    service = open_service()
    now = service.clock.now()
    ends = now + until if isinstance(until, timedelta) else until
    if ends <= now:
        raise InvalidRequest([{"field": "until", "message": "should be in the future"}])
    made = Holds(service).set((organization, contact), reason, ends)
    if as_json:
        print_json(made.as_fields())
    else:
        click.echo(f"Contact {contact} cannot be erased until {utc(made.until)} UTC.")


@hold.command("list")
@organization_option
@json_option
def list_(organization: ObjectId | None, as_json: bool) -> None:
    """List the holds that have not ended.

    \b
    Example:
        snapshots hold list --organization ID
    """
    found = Holds(open_service()).list(organization)
    if as_json:
        print_json({"holds": [each.as_fields() for each in found]})
        return
    rows = ((str(each.organization), str(each.contact), utc(each.until), each.reason) for each in found)
    print_table(("organization", "contact", "until (UTC)", "reason"), rows, "There are no holds.")


@hold.command()
@_organization
@_contact
@json_option
def lift(organization: ObjectId, contact: ObjectId, as_json: bool) -> None:
    """Remove the hold on a contact.

    \b
    Example:
        snapshots hold lift --organization ID --contact ID
    """
    Holds(open_service()).lift((organization, contact))
    if as_json:
        print_json({"organizationId": organization, "contactId": contact, "lifted": True})
    else:
        click.echo(f"The hold on contact {contact} is lifted.")
