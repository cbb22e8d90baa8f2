"""`snapshots redact`: shows what redaction would change in a text or a conversation."""

from collections.abc import Iterator

import click
from bson import ObjectId
from rich.console import Console
from rich.text import Text

from worker.cli.options import ObjectIdType, json_option
from worker.cli.redaction_options import redact_option, redact_regions_option
from worker.cli.shared import open_service, print_json
from worker.closings.policies import Policies
from worker.redaction.kinds import KINDS
from worker.redaction.redactor import Redactor, describe_counts
from worker.redaction.snapshot import Change, RedactedSnapshot, redact_snapshot
from worker.runs.redacting import preview

_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
}
"""Visible replacements for control characters, which must not reach the operator's terminal."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Optional: this command only shows what would change.")
@click.option("--text", help="A text to redact.")
@click.option("--conversation", type=ObjectIdType(), help="A conversation of the platform.")
@click.option("--organization", type=ObjectIdType(), help="The organization, whose policy is the default of --redact.")
@redact_option
@redact_regions_option
@json_option
def redact(
    dry_run: bool,
    text: str | None,
    conversation: ObjectId | None,
    organization: ObjectId | None,
    redact: list[str] | None,
    redact_regions: list[str] | None,
    as_json: bool,
) -> None:
    """Show what redaction would change in a text, or in a conversation and its customer's fields. Stores nothing.

    Without --redact, the kinds of personal data in the policy of --organization are redacted; all kinds if there is
    no --organization, or if its policy names none.

    \b
    Example:
        snapshots redact --text 'Call +49 170 1234567' --redact phone
        snapshots redact --organization ID --conversation ID
    """
    if (text is None) == (conversation is None):
        raise click.UsageError("Give either --text or --conversation.")
    if conversation and not organization:
        raise click.UsageError("--conversation needs --organization.")
    service = open_service() if organization else None
    kinds, regions = redact, redact_regions
    if service and organization:
        policy, _ = Policies(service.connections).get(organization)
        kinds = kinds or policy.redact
        regions = policy.redact_regions if regions is None else regions
    redactor = Redactor(kinds or KINDS, regions or [])
    if service and organization and conversation:
        result = preview(service, redactor, organization, conversation)
    else:
        result = redact_snapshot(redactor, [{"content": text}], {})
    if as_json:
        changes = [{"place": each.place, "before": each.before, "after": each.after} for each in result.changes]
        print_json({"counts": result.counts, "changes": changes})
    else:
        _print(result)


def _print(result: RedactedSnapshot) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for change in result.changes:
        console.print(Text(change.place, "bold"))
        console.print(_before(change))
        console.print(_after(change))
    click.echo(f"Replaced: {describe_counts(result.counts)}")


def _before(change: Change) -> Text:
    text = Text("- ")
    for piece, replaced in _pieces(change):
        text.append(piece, "red" if replaced else "")
    return text


def _after(change: Change) -> Text:
    text = Text("+ ")
    for piece, replaced in _pieces(change):
        text.append(replaced or piece, "bold green" if replaced else "")
    return text


def _pieces(change: Change) -> Iterator[tuple[str, str | None]]:
    """Yield the pieces of the original text, each with its placeholder if it is replaced."""
    after = 0
    for each in change.replacements:
        yield change.before[after : each.start].translate(_VISIBLE), None
        yield change.before[each.start : each.end].translate(_VISIBLE), each.placeholder
        after = each.end
    yield change.before[after:].translate(_VISIBLE), None
