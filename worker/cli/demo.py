"""`snapshots demo`: runs the whole pipeline on sample conversations."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click
from bson import json_util
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from worker.bootstrap import build
from worker.cli.shared import program
from worker.cli.starting import StopSignals, show_progress
from worker.domain.ledger_entry import LedgerEntry
from worker.local.dashboard import failed_tasks
from worker.local.demo import Demo, DemoResult
from worker.local.stack import stack
from worker.settings import load

_SHOWN_MESSAGES = 3
_FAILING = ("chunk", "failing")
"""The scenarios in which a request fails, so that Flower shows a failed task."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@click.pass_context
def demo(context: click.Context, as_json: bool) -> None:
    """Run the whole pipeline on sample conversations, in half a minute.

    Starts MongoDB, Redis, two workers, beat, the listener, the API and Flower as real processes. Runs single requests,
    a chunk, a request that is retried, and two that fail as intended. Leaves nothing behind.

    \b
    Example:
        snapshots demo
    """
    started = time.monotonic()
    console = Console(stderr=True)
    signals = StopSignals(console.print)
    # The demo always starts its own servers, and its API on a free port: the environment may name a production system,
    # or a stack that runs in another terminal.
    own = load().model_copy(update={"mongo_database": "demo"})
    own.model_fields_set.difference_update({"redis_url", "mongo_url", "api_port"})
    with show_progress(console, signals) as show, stack(own, on_start=lambda name: show(f"starting {name}")) as running:
        show("requesting snapshots of the sample conversations")
        service = build(running.settings)
        try:
            result = Demo(service)(lambda done, total: show(f"{done} of {total} requests are finished"))
        finally:
            service.connections.close()
        in_flower: dict[str, str] = {}
        if running.flower.login:
            with suppress(OSError):  # on a busy machine Flower may be too slow; the outcomes do not depend on it
                in_flower = failed_tasks(running.flower, len(_FAILING))
        show("stopping")
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_as_json(result, seconds)))
    else:
        _print(Console(), result, in_flower, seconds)
    context.exit(0 if result.as_expected else 1)


def _counts(entries: list[LedgerEntry]) -> dict[str, Any]:
    codes = Counter(each["error"]["code"] for each in entries if each.get("error"))
    return {
        "requests": len(entries),
        "completed": sum(each["status"] == "completed" for each in entries),
        "failed": dict(codes),
        "retries": sum(each.get("attempts", 0) for each in entries),
    }


def _as_json(result: DemoResult, seconds: float) -> dict[str, Any]:
    return {
        "ok": result.as_expected,
        "seconds": round(seconds, 1),
        "outcomes": {name: _counts(entries) for name, entries in result.scenarios},
        "event": result.event,
    }


def _print(console: Console, result: DemoResult, in_flower: Mapping[str, str], seconds: float) -> None:
    table = Table("requests", "made", "completed", "failed", "retries", title="Outcomes", title_justify="left")
    for name, entries in result.scenarios:
        counts = _counts(entries)
        failed = ", ".join(f"{count} {code}" for code, count in counts["failed"].items()) or "0"
        table.add_row(name, str(counts["requests"]), str(counts["completed"]), failed, str(counts["retries"]))
    console.print(table)
    snapshot = dict(result.snapshot)
    left = len(snapshot["messages"]) - _SHOWN_MESSAGES
    snapshot["messages"] = snapshot["messages"][:_SHOWN_MESSAGES] + ([f"... and {left} more"] if left > 0 else [])
    console.print("\n[bold]A snapshot[/], in trainingsnapshots:")
    console.print_json(json_util.dumps(snapshot, json_options=json_util.RELAXED_JSON_OPTIONS))
    console.print("\n[bold]Its event[/], on snapshots:events:")
    console.print_json(json.dumps(result.event))
    if in_flower:
        console.print("\n[bold]Failed tasks[/], as Flower shows them:")
        for arguments, reason in in_flower.items():
            console.print(f"{arguments}\n  {reason}", markup=False, highlight=False)
    command = escape(program())
    console.print(f"\nDone in {seconds:.0f} s. Next, run the stack: [bold]{command} up[/]", soft_wrap=True)
    export = f"{command} export --organization ID --format messages -o training"
    console.print(f"With the stack running, export training data: [bold]{export}[/]", soft_wrap=True)
    console.print(f"List the commands: [bold]{command} --help[/]", soft_wrap=True)
