"""`snapshots redact --dry-run`: shows what redaction would change in a text or a conversation."""

from collections.abc import Iterator

import click
from rich.console import Console
from rich.text import Text

from worker.cli.options import json_option
from worker.cli.shared import print_json
from worker.redaction.kinds import KINDS, check_kinds, check_regions
from worker.redaction.redactor import Redactor, describe_counts
from worker.redaction.snapshot import Change, RedactedSnapshot, redact_snapshot


@click.command()
@click.option("--dry-run", is_flag=True, required=True, help="Only show; this command never changes anything.")
@click.option("--text", required=True, help="The text to redact.")
@click.option("--redact", metavar="KINDS", help=f"Kinds of personal data, with commas. Default: {','.join(KINDS)}.")
@click.option("--redact-regions", metavar="REGIONS", help="Regions of phone numbers and national ids, such as DE,AT.")
@json_option
def redact(dry_run: bool, text: str, redact: str | None, redact_regions: str | None, as_json: bool) -> None:
    """Show what redaction would change. Nothing is stored.

    \b
    Example:
        snapshots redact --dry-run --text 'Call +49 170 1234567' --redact email,phone
    """
    kinds = read_kinds(redact) if redact is not None else list(KINDS)
    redactor = Redactor(kinds, read_regions(redact_regions) if redact_regions else [])
    result = redact_snapshot(redactor, [{"content": text}], {})
    if as_json:
        changes = [{"place": each.place, "before": each.before, "after": each.after} for each in result.changes]
        print_json({"counts": result.counts, "changes": changes})
    else:
        _print(result)


def read_kinds(given: str) -> list[str]:
    """Read `email,phone`. Raises UsageError."""
    try:
        return check_kinds([each.strip() for each in given.split(",") if each.strip()])
    except ValueError as error:
        raise click.UsageError(f"--redact {error}.") from None


def read_regions(given: str) -> list[str]:
    """Read `DE,AT`. Raises UsageError."""
    try:
        return check_regions([each.strip() for each in given.split(",") if each.strip()])
    except ValueError as error:
        raise click.UsageError(f"--redact-regions {error}.") from None


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
    """Yield the pieces of the text before, each with its placeholder if it is replaced."""
    after = 0
    for each in change.replacements:
        yield change.before[after : each.start], None
        yield change.before[each.start : each.end], each.placeholder
        after = each.end
    yield change.before[after:], None
