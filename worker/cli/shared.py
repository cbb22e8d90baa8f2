"""Helpers that the commands share: the service, printing and confirmation."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from worker import log
from worker.bootstrap import build_for_command
from worker.domain.json_values import render
from worker.service import Service
from worker.settings import load
from worker.startup.process import require, require_for_requests

_PIPE_WIDTH = 200
_NAME = "snapshots"


def program() -> str:
    """Return how this command was called, such as `.venv/bin/snapshots`, so that printed commands can be pasted."""
    called = Path(sys.argv[0])
    found = shutil.which(_NAME)
    if called.name != _NAME or (found and Path(found).resolve() == called.resolve()):
        return _NAME
    return shlex.quote(str(called))


def open_service(**values: Any) -> Service:
    """Build a service that is closed with the command. `values` are settings from the command line.

    Raises UnusableServer or StoreUnavailable if MongoDB cannot be used.
    """
    service = build_service(**values)
    require(service.connections, redis=False)
    return service


def open_producer(**values: Any) -> Service:
    """Like `open_service`, for a command that enqueues requests: if Redis is down, the command only warns.

    Raises UnusableServer or StoreUnavailable.
    """
    service = build_service(**values)
    require_for_requests(service.connections)
    return service


def build_service(**values: Any) -> Service:
    """Build a service that is closed with the command, without a check of the servers."""
    settings = load(**values)
    log.configure(settings)
    service = build_for_command(settings)
    click.get_current_context().call_on_close(service.connections.close)
    return service


@contextmanager
def resume_hint(hint: str) -> Iterator[None]:
    """Let the command print how to continue if Ctrl-C interrupts the block."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(hint)
        raise


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print JSON on one line, or indented; escaped if standard output is not UTF-8."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(render(value), ensure_ascii=not unicode, indent=indent))


def console() -> Console:
    """Return a console for tables on standard output. Cells are plain text; a pipe gets unwrapped lines."""
    plain = Console(markup=False, highlight=False)
    return plain if plain.is_terminal else Console(markup=False, highlight=False, width=_PIPE_WIDTH)


def agrees(question: str, yes: bool) -> bool:
    """Ask for confirmation on a terminal unless `yes` is set; return the answer. Without a terminal, return True."""
    return yes or sys.stdin is None or not sys.stdin.isatty() or click.confirm(question, err=True)
