"""`snapshots policy`: shows and sets which closings get a snapshot, what is redacted, and how long snapshots stay."""

from collections.abc import Mapping
from typing import Any

import click
from bson import ObjectId
from rich.table import Table

from worker.cli.options import ObjectIdType, json_option
from worker.cli.redaction_options import redact_option, redact_regions_option
from worker.cli.shared import console, open_service, print_json
from worker.closings.policies import Policies, Policy
from worker.closings.skipped import SkippedClosings
from worker.errors import InvalidRequest
from worker.service import Service
from worker.stores import indexes
from worker.sweep.expiry import Expiry

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
    "redact": "--redact",
    "redactRegions": "--redact-regions",
    "keepFor": "--keep-for",
}
_CLEARED = {option.removeprefix("--"): field for field, option in _OPTIONS.items()}
_organization = click.option("--organization", type=ObjectIdType(), required=True, help="The organization.")


@click.group()
def policy() -> None:
    """Configure which closed conversations get a snapshot automatically, its labels, what is redacted in snapshots,
    and how long they are kept.

    By default every closed conversation with at least 2 messages gets one.

    \b
    Example:
        snapshots policy get --organization ID
        snapshots policy set --organization ID --minimum-from-contact 1 --tag auto
        snapshots policy list
    """


@policy.command("get")
@_organization
@json_option
def get(organization: ObjectId, as_json: bool) -> None:
    """Show an organization's policy and its skipped closings.

    The closings of the last 7 days that made no snapshot are counted by reason.

    \b
    Example:
        snapshots policy get --organization ID --json
    """
    service = open_service()
    policy, own = Policies(service.connections).get(organization)
    _show(service, organization, policy, own, as_json)


@policy.command("set")
@_organization
@click.option("--enabled/--disabled", default=None, help="Whether closed conversations get a snapshot.")
@click.option("--channel-type", "channelTypes", multiple=True, help="Only conversations of this channel. Repeatable.")
@click.option(
    "--minimum-messages",
    "minimumMessages",
    type=click.IntRange(0, 1_000_000),
    help="Only conversations with at least this many messages.",
)
@click.option(
    "--minimum-from-contact",
    "minimumFromContact",
    type=click.IntRange(0, 1_000_000),
    help="Only conversations with at least this many messages from the contact.",
)
@click.option(
    "--minimum-from-user",
    "minimumFromUser",
    type=click.IntRange(0, 1_000_000),
    help="Only conversations with at least this many messages from the platform's side.",
)
@click.option(
    "--sampling-share", "samplingShare", type=click.FloatRange(0, 1), help="Share of closed conversations, from 0 to 1."
)
@click.option("--tag", "tags", multiple=True, help="Tag that the snapshots get, such as auto. Repeatable.")
@click.option("--category", help="Category that the snapshots get, such as billing.")
@click.option("--quality", help="Quality that the snapshots get, such as good.")
@click.option(
    "--settle-seconds",
    "settleSeconds",
    type=click.FloatRange(0, 86_400),
    help="Seconds to wait after the closing, so that late messages are part of the snapshot.",
)
@redact_option
@redact_regions_option
@click.option(
    "--keep-for",
    "keepFor",
    multiple=True,
    metavar="[QUALITY=]PERIOD",
    help="Retention period, such as 400d, or good=1000d for one quality. Repeatable; replaces the previous periods.",
)
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(list(_CLEARED)),
    metavar="SETTING",
    help="Reset this setting to its default, such as channel-type. Repeatable.",
)
@json_option
def set_(organization: ObjectId, clear: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Change an organization's policy. Other settings stay as they are. All processes apply it within 3 seconds.

    --redact applies to all snapshots of the organization, not only to those of closings: personal data of these kinds
    is replaced before a snapshot is stored. docs/privacy.md says what is found.

    --keep-for removes the organization's snapshots once they are older than that, including existing ones. The command
    prints how many are too old now. docs/erasure.md says what is removed.

    Sampling depends on the conversation's id only, so it is stable. Messages are counted when the conversation is
    closed. Channel names are case-insensitive.

    \b
    Example:
        snapshots policy set --organization ID --sampling-share 0.25
        snapshots policy set --organization ID --disabled
        snapshots policy set --organization ID --redact phone --redact-regions DE
        snapshots policy set --organization ID --keep-for good=1000d
        snapshots policy set --organization ID --clear channel-type
    """
    options["redactRegions"] = options.pop("redact_regions")
    given = {name: value for name, value in options.items() if value not in (None, ())}
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    cleared = [_CLEARED[each] for each in clear]
    if not fields and not cleared:
        raise click.UsageError(f"Give at least one of {', '.join(_OPTIONS.values())} or --clear.")
    if both := sorted(set(fields) & set(cleared)):
        raise click.UsageError(f"{_OPTIONS[both[0]]} cannot be set and cleared at the same time.")
    service = open_service()
    indexes.ensure_policies(service.connections)  # no others: a policy may be set before the first start
    try:
        changed = Policies(service.connections).set(organization, fields, cleared)
    except InvalidRequest as error:
        raise click.UsageError("; ".join(_describe_fault(each) for each in error.errors)) from None
    _show(service, organization, changed, True, as_json)


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
    skipped = SkippedClosings(service.connections).counts(each["organizationId"] for each in documents)
    listed = []
    for each in documents:
        key = each["organizationId"]
        try:
            listed.append(_as_fields(key, policies.read(each), True, skipped[key]))
        except InvalidRequest as error:
            listed.append({"organizationId": key, "error": error.outcome()})
    if as_json:
        print_json({"policies": listed})
        return
    if not listed:
        click.echo(
            "No organization has its own policy: every closed conversation with at least 2 messages gets a snapshot."
        )
        return
    table = Table("organization", "policy", "skipped in 7 days")
    for entry in listed:
        table.add_row(str(entry["organizationId"]), _differences(entry), _format_counts(entry.get("leftOut", {})))
    console().print(table)


def _as_fields(organization: ObjectId, policy: Policy, own: bool, skipped: Mapping[str, int]) -> dict[str, Any]:
    return {"organizationId": organization, "own": own, "policy": policy.to_json(), "leftOut": dict(skipped)}


def _show(service: Service, organization: ObjectId, policy: Policy, own: bool, as_json: bool) -> None:
    skipped = SkippedClosings(service.connections).counts([organization])[organization]
    expired = Expiry(service).count(organization) if policy.keep_for else None
    if as_json:
        found = {} if expired is None else {"expired": expired}
        print_json(_as_fields(organization, policy, own, skipped) | found)
        return
    title = f"Organization {organization}{'' if own else ' (default)'}"
    table = Table("setting", "value", title=title, title_justify="left")
    values = {name: _format_value(name, value) for name, value in policy.to_json().items()}
    if policy.settle_seconds is None:
        values["settleSeconds"] = f"{service.settings.settle_seconds:g} (SNAPSHOTS_SETTLE_SECONDS)"
    for name, value in values.items():
        table.add_row(name, value)
    table.add_row("skipped in 7 days", _format_counts(skipped))
    if expired is not None:
        table.add_row("expired, not removed yet", f"{expired:,}")
    console().print(table)


def _format_value(name: str, value: Any) -> str:
    if value is None:
        return "all" if name == "channelTypes" else "-"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _differences(entry: Mapping[str, Any]) -> str:
    """Describe the settings that differ from the default."""
    if "error" in entry:
        return f"invalid: {entry['error']['message']}"
    default = Policy().to_json()
    different = {name: value for name, value in entry["policy"].items() if value != default[name]}
    return (
        "; ".join(f"{name}: {_format_value(name, value)}" for name, value in different.items()) or "same as the default"
    )


def _format_counts(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in skipped.items()) or "-"


def _describe_fault(fault: Mapping[str, str]) -> str:
    return f"{_OPTIONS.get(fault['field'].split('.')[0], fault['field'])} {fault['message']}."
