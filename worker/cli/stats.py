"""`snapshots stats`: counts what an organization's snapshots contain."""

from collections.abc import Iterable, Sequence
from typing import Any

import click
from bson import ObjectId

from worker.cli.lines import plural
from worker.cli.options import ObjectIdType, json_option
from worker.cli.shared import open_service, print_json
from worker.cli.snapshot_filters import read_snapshot_filter, snapshot_filter_options
from worker.cli.tables import print_table
from worker.statistics.figures import FormatFigures, Lengths, Statistics, Values
from worker.statistics.measuring import Limits, measure

_SAMPLE_SECONDS, _COUNT_SECONDS = 120.0, 240.0
"""MongoDB keeps the state of one moment for 5 minutes."""
_SHOWN = 10
"""Maximum number of values of a field in a table. JSON has more."""
_LONGEST_VALUE = 40


@click.command()
@click.option("--organization", type=ObjectIdType(), required=True, help="The organization.")
@snapshot_filter_options
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    default=2000,
    show_default=True,
    help="Read at most this many random snapshots for channels, characters, languages and formats.",
)
@json_option
def stats(organization: ObjectId, sample: int, as_json: bool, **given: Any) -> None:
    """Count what an organization's snapshots contain.

    Counts snapshots by quality, category, tag, month and number of messages, and duplicates, exactly. Counts by
    channel, number of characters and language, and what each format of an export would skip and why, come from a
    random sample if there are more snapshots than --sample.

    \b
    Example:
        snapshots stats --organization ID
        snapshots stats --organization ID --quality good --from 2026-05-01
        snapshots stats --organization ID --json | jq .sample.formats
    """
    service = open_service()
    selected = read_snapshot_filter(given, service.settings)
    figures = measure(service.connections, organization, selected, Limits(sample, _SAMPLE_SECONDS, _COUNT_SECONDS))
    if as_json:
        print_json(figures.model_dump(mode="json", by_alias=True))
    else:
        _print(figures)


def _print(figures: Statistics) -> None:
    click.echo(f"{plural(figures.snapshots, 'snapshot')} of organization {figures.organization_id}")
    if not figures.snapshots:
        return
    _print_values("quality", figures.qualities, figures.snapshots)
    _print_values("category", figures.categories, figures.snapshots)
    _print_values("tag", figures.tags, figures.snapshots)
    _print_values("conversation began", figures.conversation_months, figures.snapshots)
    _print_values("snapshot made", figures.created_months, figures.snapshots)
    _print_lengths("messages", figures.messages)
    found = figures.duplicates
    if found.surplus:
        repeats = plural(found.surplus, "repeat")
        click.echo(f"{plural(found.snapshots, 'snapshot')} share their messages with another: {repeats}.")
    else:
        click.echo("No two snapshots have the same messages.")
    sample = figures.sample
    what = "all" if sample.complete else "a random sample of"
    click.echo(f"\nFrom {what} {plural(sample.snapshots, 'snapshot')}:")
    _print_values("channel", sample.channels, sample.snapshots)
    if sample.languages:
        _print_values("language", sample.languages, sample.snapshots)
    else:
        click.echo("Languages are not counted: install training-snapshots[languages].")
    _print_lengths("characters", sample.characters)
    print_table(
        ("format", "usable", "rows", "skipped", "reason"),
        (row for each in sample.formats for row in _format_rows(each)),
        "There are no formats.",
        ("usable", "rows", "skipped"),
    )


def _print_values(name: str, values: Values, total: int) -> None:
    rows = [(_shown(each.value), *_share(each.snapshots, total)) for each in values.values[:_SHOWN]]
    print_table((name, "snapshots", "share"), rows, "", ("snapshots", "share"))
    if values.more or len(values.values) > _SHOWN:
        click.echo("  Less frequent values: see --json")


def _print_lengths(unit: str, found: Lengths) -> None:
    buckets = [each for each in found.buckets if each.snapshots]
    rows = [(_range(each.least, each.most), *_share(each.snapshots, found.snapshots)) for each in buckets]
    print_table(
        (unit, "snapshots", "share"),
        rows,
        f"The number of {unit} is unknown for every snapshot.",
        ("snapshots", "share"),
    )
    if found.median is not None:
        click.echo(f"  median {found.median:,}, 90th percentile {found.p90:,}, longest {found.longest:,}")


def _format_rows(figures: FormatFigures) -> Iterable[Sequence[str]]:
    head = (figures.format, f"{figures.usable:,}", f"{figures.rows:,}")
    reasons = [(f"{each.snapshots:,}", each.reason) for each in figures.skipped] or [("0", "")]
    for number, reason in enumerate(reasons):
        yield (*(head if number == 0 else ("", "", "")), *reason)


def _share(part: int, whole: int) -> tuple[str, str]:
    return f"{part:,}", f"{100 * part / whole:.1f} %"


def _shown(value: str | None) -> str:
    if value is None:
        return "(none)"
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}…"


def _range(least: int, most: int | None) -> str:
    if most is None:
        return f"from {least:,}"
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
