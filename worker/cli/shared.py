"""What the commands share: the service, and how they print and ask."""

import json
import sys
from typing import Any

import click
from rich.console import Console

from worker import log
from worker.bootstrap import build
from worker.domain.json_values import render
from worker.service import Service
from worker.settings import load

_WIDTH_OF_A_PIPE = 200


def open_service(**values: Any) -> Service:
    """A service on the environment's settings, for this command; `values` are settings that the command line gives."""
    settings = load(**values)
    log.configure(settings)
    service = build(settings)
    click.get_current_context().call_on_close(service.connections.close)
    return service


def print_json(value: Any, *, indent: int | None = None) -> None:
    """One line, or several with `indent`; escaped where standard output is not UTF-8."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(render(value), ensure_ascii=not unicode, indent=indent))


def console() -> Console:
    """For tables on standard output. Nothing in a cell is markup; a pipe gets whole lines."""
    plain = Console(markup=False, highlight=False)
    return plain if plain.is_terminal else Console(markup=False, highlight=False, width=_WIDTH_OF_A_PIPE)


def agrees(question: str, yes: bool) -> bool:
    """Asks on a terminal, unless `yes`; where no one can answer, the command was the answer."""
    return yes or not sys.stdin.isatty() or click.confirm(question, err=True)
