"""The help of every command."""

from collections.abc import Iterator

import click
import pytest

from worker.backfills.spec import BackfillSpec
from worker.cli import main
from worker.cli.group import option_of
from worker.domain.requests import SnapshotRequest
from worker.domain.validation import CamelModel
from worker.exports.spec import ExportSpec

_WITHOUT_JSON = {"snapshots celery", "snapshots listen", "snapshots erase keys", "snapshots erase public-key"}
"""Commands that run until they are stopped, or that print a key."""


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, click.Context(found, context, info_name=name, max_content_width=80))


ALL = {pair[1].command_path: pair for pair in _commands(main, click.Context(main, info_name="snapshots"))}


@pytest.mark.parametrize("path", ALL)
def test_help_has_an_example_and_fits_80_columns(path: str) -> None:
    command, context = ALL[path]
    shown = command.get_help(context)
    assert "Example:" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_commands_print_json_on_demand() -> None:
    runnable = {
        path
        for path, (command, _) in ALL.items()
        if not isinstance(command, click.Group) or command.invoke_without_command
    }
    with_json = {path for path in runnable if any("--json" in each.opts for each in ALL[path][0].params)}
    assert runnable - with_json == _WITHOUT_JSON


@pytest.mark.parametrize(
    ("path", "model"),
    [("snapshots backfill", BackfillSpec), ("snapshots export", ExportSpec), ("snapshots request", SnapshotRequest)],
)
def test_error_about_a_field_names_an_option_of_the_command(path: str, model: type[CamelModel]) -> None:
    options = {option for each in ALL[path][0].params for option in each.opts}
    assert {option_of(field.alias or name) for name, field in model.model_fields.items()} <= options
