"""`snapshots inspect`: checks whether the platform's documents fit, and suggests settings that map them."""

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from worker.cli.group import FAILED
from worker.cli.options import json_option
from worker.cli.shared import console, open_service, print_json
from worker.inspection.candidates import OR
from worker.inspection.matching import Fit
from worker.settings.field_mapping import variable

if TYPE_CHECKING:
    from worker.inspection.result import Inspected, Inspection

_TO_COMPLETE = {
    "message_sender_values": "  # ? is contact or user",
    "message_sender_type_values": "  # ? is CONTACT, HUMAN, AI or SYSTEM",
    "conversation_resolved_values": "  # remove those that mean open",
    "message_internal_values": "  # keep those that mean an internal note",
    "message_deleted_field": "  # if it marks deleted messages",
}
_STYLES = {Fit.FITS: "green", Fit.OPTIONAL: "", Fit.PARTLY: "yellow", Fit.FAULT: "red"}


@click.command()
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Maximum documents to read from each collection.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Maximum seconds for each collection.",
)
@json_option
@click.pass_context
def inspect(context: click.Context, sample: int, seconds: float, as_json: bool) -> None:
    """Compare samples of the platform's contacts, conversations, messages and users with the fields that are read.

    Reports which fields fit, and prints settings that map fields with other names. Check these settings before you use
    them, above all the translations of values. docs/data.md lists all fields. The command only reads. It prints no
    values, except short ones of fields that may say who wrote a message, whether a message is internal, or whether
    a conversation is resolved. The exit code is 1 if a field does not fit with the current settings.

    \b
    Example:
        snapshots inspect
        snapshots inspect --json | jq .settings
    """
    from worker.inspection.inspection import Inspector

    service = open_service()
    with Console(stderr=True).status("collections") as status:
        result = Inspector(service.connections, sample, seconds)(status.update)
    if as_json:
        print_json(_as_fields(result))
    else:
        _print(result)
    context.exit(0 if result.fits else FAILED)


def _as_fields(result: "Inspection") -> dict[str, Any]:
    return {
        "fits": result.fits,
        "database": result.database,
        "otherDatabases": result.other_databases,
        "collections": [
            {
                "kind": f"{one.group}s",
                "collection": one.sample.collection,
                "documents": one.sample.documents,
                "sampled": one.sample.profile.sampled,
                "cutShort": one.sample.cut_short,
                "seconds": round(one.sample.seconds, 3),
                "fields": [
                    {
                        "field": each.name,
                        "path": each.path,
                        "level": each.level.value,
                        "finding": each.text,
                        "settings": {variable(name): value for name, value in each.settings.items()},
                    }
                    for each in one.findings
                ],
                "unread": [
                    {"path": path, "types": list(here.kinds), "documents": here.present}
                    for path, here in one.unread.items()
                ],
            }
            for one in result.collections
        ],
        "settings": {variable(name): value for name, value in result.settings.items()},
        "incomplete": {variable(name): _alternatives(name, value) for name, value in result.incomplete.items()},
    }


def _print(result: "Inspection") -> None:
    out = console()
    for one in result.collections:
        out.print(_heading(one), style="bold")
        out.print(Padding(_table(one), (0, 0, 0, 2), expand=False))
        if one.unread:
            unread = ", ".join(f"{path} ({', '.join(here.kinds)})" for path, here in one.unread.items())
            out.print(Padding(f"not read: {unread}", (0, 0, 0, 2), expand=False))
        out.print()
    if result.others and not all(one.sample.profile.sampled for one in result.collections):
        out.print(f"Other collections of the database: {', '.join(result.others)}\n")
    if result.settings or result.incomplete:
        _print_settings(result)
    elif result.fits:
        partly = [each.name for one in result.collections for each in one.findings if each.level is Fit.PARTLY]
        but = f" Check what fits only partly: {', '.join(dict.fromkeys(partly))}." if partly else ""
        out.print(f"Everything that is required fits in the database {result.database}.{but}")
    elif result.other_databases:
        out.print(
            f"The database {result.database} has none of the four collections. Other databases of this server: "
            f"{', '.join(result.other_databases)}. Set SNAPSHOTS_MONGO_DATABASE, or the database in "
            "SNAPSHOTS_MONGO_URL."
        )
    else:
        out.print(
            f"The database {result.database} does not fit yet, and there are no further settings to suggest. See "
            "the fields that do not fit; check SNAPSHOTS_MONGO_DATABASE and the settings in docs/data.md."
        )


def _print_settings(result: "Inspection") -> None:
    if result.settings:
        console().print("These settings would map the fields. Check them before you use them (docs/data.md).")
    for name, value in result.settings.items():
        click.echo(f"export {variable(name)}={_quoted(value)}")
    if result.incomplete:
        console().print("\nComplete these and remove the #: only you know what the values mean.", highlight=False)
    for name, value in result.incomplete.items():
        first, *others = _alternatives(name, value)
        choice = f"  # or {', '.join(others)}" if others else ""
        click.echo(f"# export {variable(name)}={_quoted(first)}{choice or _TO_COMPLETE.get(name, '')}")


def _alternatives(name: str, value: str) -> list[str]:
    return value.split(OR) if name.endswith("_field") else [value]


def _heading(one: "Inspected") -> str:
    taken = one.sample
    short = ", cut short by the time limit" if taken.cut_short else ""
    return (
        f"{one.group}s: {taken.collection}, {taken.profile.sampled:,} of {taken.documents:,} documents sampled{short}"
    )


def _table(one: "Inspected") -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in one.findings:
        path = "" if each.path == each.name else f"{each.path}: "
        better = dict.fromkeys(value for name, value in each.settings.items() if name.endswith("_field"))
        mapped = "".join(f"\n→ {suggested}" for suggested in better if suggested != each.path)
        table.add_row(each.level.value, each.name, f"{path}{each.text}{mapped}", style=_STYLES[each.level])
    return table


def _quoted(value: str) -> str:
    safe = all(letter.isalnum() or letter in "._=,-" for letter in value)
    return value if safe else "'" + value.replace("'", "'\\''") + "'"
