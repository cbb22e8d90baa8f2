"""The options that select snapshots, as the filters of the HTTP API's list do."""

from collections.abc import Mapping
from typing import Any

import click

from worker.cli.options import Command, ObjectIdType, TextType
from worker.domain.snapshot_filter import SnapshotFilter
from worker.settings import Settings

_OPTIONS = (
    click.option("--quality", type=TextType(), help="Only snapshots of this quality, such as good."),
    click.option("--category", type=TextType(), help="Only snapshots of this category, such as billing."),
    click.option("--tag", type=TextType(), help="Only snapshots with this tag."),
    click.option("--contact", "contactId", type=ObjectIdType(), help="Only snapshots of this contact."),
    click.option("--conversation", "conversationId", type=ObjectIdType(), help="Only snapshots of this conversation."),
    click.option(
        "--from",
        "from",
        type=TextType(),
        metavar="TIME|DAY",
        help="Only snapshots made at or after this time, such as 2026-05-18 or 2026-05-18T14:30:00Z.",
    ),
    click.option(
        "--to",
        "to",
        type=TextType(),
        metavar="TIME|DAY",
        help="Only snapshots made at or before this time; a date alone means 00:00 UTC.",
    ),
    click.option(
        "--archived",
        "isArchived",
        type=click.Choice(["false", "true", "all"]),
        default="false",
        show_default=True,
        help="Archived snapshots: false excludes them, true selects only them, all includes them.",
    ),
    click.option("--notes-contain", "--q", "q", type=TextType(), help="Only snapshots whose notes contain this text."),
)
_NAMES = ("quality", "category", "tag", "contactId", "conversationId", "from", "to", "isArchived", "q")


def snapshot_filter_options(command: Command) -> Command:
    """Add the options to a command, which gets their values under the names of the API's parameters."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_snapshot_filter(given: Mapping[str, Any], limits: Settings) -> SnapshotFilter:
    """Return the filter that the options stand for. Raises InvalidRequest."""
    return SnapshotFilter.read({name: given[name] for name in _NAMES if given[name] is not None}, limits)
