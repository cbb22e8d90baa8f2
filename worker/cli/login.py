"""`snapshots login`: prints a link that logs a browser in to the operations page."""

from typing import Any

import click
from bson import ObjectId

from worker.api.tokens import Caller
from worker.cli.lines import utc
from worker.cli.options import ObjectIdType, json_option
from worker.cli.shared import open_service, print_json
from worker.operations.data.login_links import LoginLinks
from worker.settings import Settings

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - a browser cannot open it


@click.command()
@click.option(
    "--organization", type=ObjectIdType(), help="Show only this organization. Default: all, with an operator's rights."
)
@click.option(
    "--user", type=ObjectIdType(), help="The user id that the log shows for this user's redrives. Generated if omitted."
)
@click.option(
    "--url",
    metavar="URL",
    help="The API's address as the browser reaches it. Default: that of SNAPSHOTS_OPERATIONS_URL, or else "
    "http://SNAPSHOTS_API_HOST:SNAPSHOTS_API_PORT.",
)
@json_option
def login(organization: ObjectId | None, user: ObjectId | None, url: str | None, as_json: bool) -> None:
    """Print a link that logs a browser in to the operations page, once and within 10 minutes.

    Like `snapshots keys create`, the command needs only the database. The session ends when you log out or close the
    browser, and after 12 hours.

    \b
    Example:
        snapshots login
        snapshots login --organization ID --url https://snapshots.example.com
    """
    if url is not None and not url.startswith(("http://", "https://")):
        raise click.BadParameter("The address should begin with http:// or https://.", param_hint="'--url'")
    service = open_service()
    base = url.rstrip("/") if url else address_of(service.settings)
    caller = Caller(organization or ObjectId(), user or ObjectId(), "ADMIN", operator=organization is None)
    link = LoginLinks(service.connections).create(caller)
    if as_json:
        shown: dict[str, Any] = {"link": base + link.path, "validUntil": link.valid_until}
        print_json({**shown, "userId": caller.user, "organizationId": organization, "operator": caller.operator})
    else:
        click.echo(base + link.path)
        click.echo(f"works once, until {utc(link.valid_until)} UTC", err=True)


def address_of(settings: Settings) -> str:
    """Return the address of the API at which operators reach it, or else that on this machine.

    Raises click.UsageError if its port is not fixed.
    """
    if settings.operations_url:
        return settings.operations_url.rstrip("/").removesuffix("/operations")
    if settings.api_port == 0:
        raise click.UsageError("SNAPSHOTS_API_PORT is 0, so the API's port is unknown: give --url.")
    host = _ANY_ADDRESS.get(settings.api_host, settings.api_host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.api_port}"
