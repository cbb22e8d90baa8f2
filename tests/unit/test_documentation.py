"""Every code block and every command in the documentation is tested, or has a reason why not."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from support.documentation import CHECKOUT, DOCUMENTS, ELSEWHERE, blocks, is_known
from worker.cli import main
from worker.settings import load
from worker.stores.indexes import source_indexes

_INLINE = re.compile(r"`(snapshots(?: [^`]+)?)`")
_HELP_EXAMPLE = re.compile(r"^ +(snapshots .*)$", re.MULTILINE)


def test_every_code_block_is_run_or_has_a_reason() -> None:
    """A new block: see the tables in tests/support/documentation.py."""
    unknown = {
        f"{block.name}: {command.splitlines()[0]}"
        for block in blocks()
        if not block.elsewhere
        for command in block.commands
        if not is_known(command)
    }
    assert not unknown


def test_every_exception_is_used() -> None:
    assert {block.elsewhere for block in blocks()} - {None} == set(ELSEWHERE)


def test_indexes_to_create_beforehand_are_those_that_the_code_creates() -> None:
    (block,) = (each for each in blocks() if each.text.startswith("db.messages.createIndex"))
    listed = re.findall(r"db\.(\w+)\.createIndex\(\{(.*)\}\)", block.text)
    documented = {(name, tuple(re.findall(r"(\w+): 1", keys))) for name, keys in listed}
    assert documented == {(each.collection, tuple(key for key, _ in each.keys)) for each in source_indexes(load())}


def _commands() -> Iterator[tuple[str, str]]:
    """Return where each `snapshots` command is named, and the command: in documents and in the help."""
    for path in DOCUMENTS:
        name = str(path.relative_to(CHECKOUT))
        yield from ((name, each) for each in _INLINE.findall(path.read_text()))
    for block in blocks():
        yield from (
            (block.name, line.split(" #")[0].removeprefix(".venv/bin/"))
            for line in block.text.splitlines()
            if line.removeprefix(".venv/bin/").startswith("snapshots ")
        )
    for name, command in _all_commands(main, "snapshots"):
        yield from ((f"{name} --help", each) for each in _HELP_EXAMPLE.findall(command.help or ""))


def _all_commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None
        yield f"{name} {each}", command
        if isinstance(command, click.Group):
            yield from _all_commands(command, f"{name} {each}")


def test_commands_that_are_named_exist_with_their_options() -> None:
    faults = {f"{where}: {command}" for where, command in _commands() if not _exists(command)}
    assert not faults


def test_help_fits_a_terminal_of_80_columns() -> None:
    context = click.Context(main, terminal_width=80)
    helps = {name: command.get_help(context) for name, command in _all_commands(main, "snapshots")}
    wide = [f"{name}: {line}" for name, text in helps.items() for line in text.splitlines() if len(line) > 80]
    assert wide == []


def _exists(text: str) -> bool:
    """Tell whether subcommands and options exist. `a|b` stands for one of several subcommands."""
    words = shlex.split(text.split(" | ", maxsplit=1)[0].replace("...", ""), comments=True)[1:]
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = [command.get_command(click.Context(command), name) for name in words[0].split("|")]
        if not found[0] or None in found:
            return False
        command, words = found[0], words[1:]
    if command.context_settings.get("ignore_unknown_options"):  # they are another program's
        return True
    options = {
        option for each in command.get_params(click.Context(command)) for option in each.opts + each.secondary_opts
    }
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return given <= options | {"--help", "-h"}


@pytest.mark.parametrize(
    ("command", "exists"),
    [
        ("snapshots requests redrive --code x --dry-run", True),
        ("snapshots keys create|list|revoke", True),
        ("snapshots --help", True),
        ("snapshots requests undo", False),
        ("snapshots status --colour", False),
    ],
)
def test_the_check_finds_what_does_not_exist(command: str, exists: bool) -> None:
    assert _exists(command) is exists
