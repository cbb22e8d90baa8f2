"""`snapshots demo`: the main job, shown."""

import json
import time
from collections import Counter
from typing import Any

import click
from bson import json_util
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from worker.bootstrap import build
from worker.local.demo import Demo, Shown
from worker.local.stack import stack
from worker.settings import load
from worker.stores.connections import Document

_SHOWN_MESSAGES = 3


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@click.pass_context
def demo(context: click.Context, as_json: bool) -> None:
    """Show the whole pipeline on sample conversations, in half a minute.

    Starts MongoDB, Redis, two workers and beat as real processes; makes snapshots of single requests, of a
    chunk, one that is retried, and two that fail, as they should. Leaves nothing behind.

    \b
    Example:
        snapshots demo
    """
    started = time.monotonic()
    console = Console(stderr=True)
    # A demonstration is of its own servers: what the environment names may be someone's production.
    own = load().model_copy(update={"mongo_database": "demo"})
    own.model_fields_set.difference_update({"redis_url", "mongo_url"})
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console)
    with bar:
        task = bar.add_task("starting MongoDB, Redis, 2 workers, beat", total=None)
        with stack(own) as running:
            bar.update(task, description="making snapshots")
            service = build(running.settings)
            try:
                shown = Demo(service)(lambda done, total: bar.update(task, completed=done, total=total))
            finally:
                service.connections.close()
            bar.update(task, description="stopping")
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_result(shown, seconds)))
    else:
        _print(Console(), shown, seconds)
    context.exit(0 if shown.as_expected else 1)


def _counts(entries: list[Document]) -> dict[str, Any]:
    codes = Counter(each["error"]["code"] for each in entries if each.get("error"))
    return {
        "requests": len(entries),
        "completed": sum(each["status"] == "completed" for each in entries),
        "failed": dict(codes),
        "retries": sum(each.get("attempts", 0) for each in entries),
    }


def _result(shown: Shown, seconds: float) -> dict[str, Any]:
    return {
        "ok": shown.as_expected,
        "seconds": round(seconds, 1),
        "outcomes": {name: _counts(entries) for name, entries in shown.ways},
        "event": shown.event,
    }


def _print(console: Console, shown: Shown, seconds: float) -> None:
    table = Table("requests", "made", "completed", "failed", "retries", title="Outcomes", title_justify="left")
    for name, entries in shown.ways:
        counts = _counts(entries)
        failed = ", ".join(f"{count} {code}" for code, count in counts["failed"].items()) or "0"
        table.add_row(name, str(counts["requests"]), str(counts["completed"]), failed, str(counts["retries"]))
    console.print(table)
    snapshot = dict(shown.snapshot)
    left = len(snapshot["messages"]) - _SHOWN_MESSAGES
    snapshot["messages"] = snapshot["messages"][:_SHOWN_MESSAGES] + ([f"... and {left} more"] if left > 0 else [])
    console.print("\n[bold]A snapshot[/], in trainingsnapshots:")
    console.print_json(json_util.dumps(snapshot, json_options=json_util.RELAXED_JSON_OPTIONS))
    console.print("\n[bold]Its event[/], on snapshots:events:")
    console.print_json(json.dumps(shown.event))
    console.print(f"\nDone in {seconds:.0f} s. Next: [bold]snapshots up[/] runs the stack, [bold]snapshots --help[/].")
