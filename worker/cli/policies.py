"""`snapshots policy get|set|list`: which closings of an organization make a snapshot by themselves."""

from collections.abc import Mapping
from typing import Any

import click
from bson import ObjectId
from rich.table import Table

from worker.cli.options import ObjectIdType, json_option
from worker.cli.shared import console, open_service, print_json
from worker.closings.policies import Policies, Policy
from worker.closings.skipped import LeftOutClosings
from worker.errors import InvalidRequest
from worker.stores import indexes

_OPTIONS = {
    "enabled": "--enabled",
    "channelTypes": "--channel-type",
    "minimumMessages": "--minimum-messages",
    "minimumFromContact": "--minimum-from-contact",
    "minimumFromUser": "--minimum-from-user",
    "samplingShare": "--sampling-share",
    "tags": "--tag",
    "category": "--category",
    "quality": "--quality",
    "settleSeconds": "--settle-seconds",
}
_CLEARED = {option.removeprefix("--"): field for field, option in _OPTIONS.items()}
_organization = click.argument("organization", type=ObjectIdType())


@click.group()
def policy() -> None:
    """Say which closed conversations make a snapshot by themselves, and how it is labelled.

    An organization without a policy of its own has the default: every closing with at least 2 messages.

    \b
    Example:
        snapshots policy get 6a1b2c3d4e5f60718293a4b5
        snapshots policy set 6a1b2c3d4e5f60718293a4b5 --minimum-from-contact 1 --sampling-share 0.25 --tag auto
        snapshots policy list
    """


@policy.command("get")
@_organization
@json_option
def get(organization: ObjectId, as_json: bool) -> None:
    """Show an organization's policy, and how many closings of the last 7 days it left out, by reason.

    \b
    Example:
        snapshots policy get 6a1b2c3d4e5f60718293a4b5 --json
    """
    service = open_service()
    found, own = Policies(service.connections).get(organization)
    left_out = LeftOutClosings(service.connections).counts([organization])[organization]
    _show(organization, found, own, left_out, as_json)


@policy.command("set")
@_organization
@click.option("--enabled/--disabled", default=None, help="Whether closings make snapshots at all.")
@click.option("--channel-type", "channelTypes", multiple=True, help="Only conversations of this channel; repeatable.")
@click.option("--minimum-messages", "minimumMessages", type=click.IntRange(0, 1_000_000), help="Messages in all.")
@click.option("--minimum-from-contact", "minimumFromContact", type=click.IntRange(0, 1_000_000), help="The contact's.")
@click.option(
    "--minimum-from-user", "minimumFromUser", type=click.IntRange(0, 1_000_000), help="The platform's side's."
)
@click.option("--sampling-share", "samplingShare", type=click.FloatRange(0, 1), help="Share of the conversations.")
@click.option("--tag", "tags", multiple=True, help="A tag of the snapshots; repeatable.")
@click.option("--category", help="The snapshots' category.")
@click.option("--quality", help="The snapshots' quality.")
@click.option(
    "--settle-seconds", "settleSeconds", type=click.FloatRange(0, 86_400), help="From a closing to its snapshot."
)
@click.option("--clear", multiple=True, type=click.Choice(list(_CLEARED)), help="Back to the default; repeatable.")
@json_option
def set_(organization: ObjectId, clear: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Change an organization's policy. What is not named stays as it is; it holds within 3 seconds everywhere.

    A conversation is in the sampling share by its id, so always the same way. Its messages are counted when it is
    closed. Channels are compared without regard to case.

    \b
    Example:
        snapshots policy set 6a1b2c3d4e5f60718293a4b5 --channel-type whatsapp --channel-type sms --tag auto
        snapshots policy set 6a1b2c3d4e5f60718293a4b5 --disabled
        snapshots policy set 6a1b2c3d4e5f60718293a4b5 --clear channel-type --clear settle-seconds
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    cleared = [_CLEARED[each] for each in clear]
    if not fields and not cleared:
        raise click.UsageError(f"Nothing to change: give at least one of {', '.join(_OPTIONS.values())}, --clear.")
    if both := sorted(set(fields) & set(cleared)):
        raise click.UsageError(f"{_OPTIONS[both[0]]} is given and cleared; it can be one of both.")
    service = open_service()
    indexes.ensure(service.connections)  # without the unique one, two at once could make two policies
    try:
        changed = Policies(service.connections).set(organization, fields, cleared)
    except InvalidRequest as error:
        raise click.UsageError("; ".join(_said(each) for each in error.errors)) from None
    left_out = LeftOutClosings(service.connections).counts([organization])[organization]
    _show(organization, changed, True, left_out, as_json)


@policy.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the organizations that have a policy of their own.

    \b
    Example:
        snapshots policy list --json
    """
    service = open_service()
    policies = Policies(service.connections)
    documents = policies.all()
    left_out = LeftOutClosings(service.connections).counts(each["organizationId"] for each in documents)
    listed = []
    for each in documents:
        key = each["organizationId"]
        try:
            listed.append(_described(key, policies.read(each), True, left_out[key]))
        except InvalidRequest as error:
            listed.append({"organizationId": key, "error": error.outcome()})
    if as_json:
        print_json({"policies": listed})
        return
    if not listed:
        click.echo("No organization has a policy of its own: every closing with at least 2 messages makes a snapshot.")
        return
    table = Table("organization", "policy", "left out in 7 days")
    for entry in listed:
        table.add_row(str(entry["organizationId"]), _differences(entry), _counted(entry.get("leftOut", {})))
    console().print(table)


def _described(organization: ObjectId, found: Policy, own: bool, left_out: Mapping[str, int]) -> dict[str, Any]:
    return {"organizationId": organization, "own": own, "policy": found.to_json(), "leftOut": dict(left_out)}


def _show(organization: ObjectId, found: Policy, own: bool, left_out: Mapping[str, int], as_json: bool) -> None:
    if as_json:
        print_json(_described(organization, found, own, left_out))
        return
    table = Table("setting", "value", title=f"Organization {organization}{'' if own else ' (default)'}")
    for name, value in found.to_json().items():
        table.add_row(name, _text(name, value))
    table.add_row("left out in 7 days", _counted(left_out))
    console().print(table)


def _text(name: str, value: Any) -> str:
    if value is None:
        return {"channelTypes": "all", "settleSeconds": "as SNAPSHOTS_SETTLE_SECONDS says"}.get(name, "-")
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _differences(entry: Mapping[str, Any]) -> str:
    """What is not as the default has it."""
    if "error" in entry:
        return f"not valid: {entry['error']['message']}"
    default = Policy().to_json()
    different = {name: value for name, value in entry["policy"].items() if value != default[name]}
    return "; ".join(f"{name}: {_text(name, value)}" for name, value in different.items()) or "as the default"


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in left_out.items()) or "-"


def _said(fault: Mapping[str, str]) -> str:
    return f"{_OPTIONS.get(fault['field'].split('.')[0], fault['field'])} {fault['message']}."
