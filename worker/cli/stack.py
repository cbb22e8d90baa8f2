"""`snapshots up`: the whole system in the foreground."""

import json
import signal
import threading
from importlib.resources import files
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from worker.local.login import Access
from worker.local.processes import Child
from worker.local.stack import Stack, stack
from worker.log import hide_passwords
from worker.settings import load

_SAMPLES = files("worker") / "local" / "samples" / "conversations.jsonl"


@click.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Folder that is kept; else all goes at the end."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON once everything answers.")
def up(data: Path | None, as_json: bool) -> None:
    """Run the whole system until Ctrl-C: servers, workers, beat, api.

    MongoDB and Redis are started here, unless SNAPSHOTS_MONGO_URL or SNAPSHOTS_REDIS_URL name one. A process
    that dies is started again.

    \b
    Example:
        snapshots up --data ./data
        snapshots up --json | head -1 | jq .api
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = Console(stderr=True)

    def died(child: Child, code: int | None, delay: float) -> None:
        if not stop.is_set():
            # A server that cannot start, on a damaged file say, says why nowhere else.
            why = escape(f": {child.last_lines()}") if code and code > 0 else ""
            console.print(f"[yellow]{child.name} ended ({code}); started again in {delay:g} s[/]{why}", soft_wrap=True)

    with stack(load(), data, died) as running:
        click.echo(json.dumps(_addresses(running)) if as_json else _said(running))
        running.supervisor.watch(stop)
        if not as_json:
            console.print("stopping")


def _addresses(running: Stack) -> dict[str, object]:
    own = running.settings
    servers = {"redis": own.redis_url, "mongo": own.mongo_url, "database": own.mongo_database}
    api = running.api
    return {"ready": True, **servers, "api": api.url, "token": api.token, "organization": str(api.organization)}


def _said(running: Stack) -> str:
    own = running.settings
    redis, mongo = hide_passwords(own.redis_url), hide_passwords(own.mongo_url)
    names = ", ".join(child.name for child in running.supervisor.children)
    api = running.api
    return f"""\
running   {names}
redis     {redis}
mongo     {mongo}
database  {own.mongo_database}
api       {api.url}, documentation at {api.url}/docs
page      {api.url}/operations, opened with the token below
logs      {running.logs}

In another terminal:
  export SNAPSHOTS_REDIS_URL='{redis}' SNAPSHOTS_MONGO_URL='{mongo}'
  snapshots import {_SAMPLES} --organization {api.organization}
  snapshots request --all --organization {api.organization}
  snapshots status
{_curl(api)}

Ctrl-C stops everything."""


def _curl(api: Access) -> str:
    """A line that works as it stands."""
    token = api.token or "$TOKEN"
    return f"  curl -H 'Authorization: Bearer {token}' '{api.url}/api/training/snapshots?limit=5'"
