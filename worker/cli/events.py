"""`snapshots events`: shows the event stream, and follows it."""

import re
import time
from collections.abc import Iterator
from typing import Any

import click

from worker.cli.lines import echo
from worker.cli.options import json_option
from worker.cli.shared import build_service, print_json
from worker.errors import BrokerUnavailable
from worker.startup.process import require
from worker.stores.events import Events
from worker.stores.stats import newest_event

_PAGE = 500
_BLOCK_MS = 2000
"""Below the connection's socket timeout."""
_RETRY_SECONDS = 1.0


def _check_after(_: click.Context, __: click.Parameter, value: str) -> str:
    if value not in {"-", "$"} and not re.fullmatch(r"\d{1,19}(-\d{1,19})?", value, re.ASCII):
        raise click.BadParameter("The value should be a stream id such as 1747578600000-0, or $ for new events only.")
    return value


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for new events until Ctrl-C.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many events.")
@click.option(
    "--after",
    default="-",
    metavar="ID",
    callback=_check_after,
    help="Start after this stream id; $ means new events only.",
)
@json_option
def events(follow: bool, count: int | None, after: str, as_json: bool) -> None:
    """Show completion events, oldest first.

    With --json each line is one CloudEvent; its extension `streamid` is the id in the stream. A repeated event
    has the same `id`.

    \b
    Example:
        snapshots events --count 10
        snapshots events --follow --after '$' --json | jq .type
    """
    connections = build_service().connections
    require(connections, mongo=False)
    start = newest_event(connections) if after == "$" else after
    stream = _follow(Events(connections), start) if follow else _all(Events(connections), start)
    key = start
    try:
        for shown, (key, event) in enumerate((each for each in stream if each[1]), 1):
            if as_json:
                print_json({**event, "streamid": key})
            else:
                click.echo(_format_event(key, event))
            if shown == count:
                return
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"Continue with --after {key}.")
        raise


def _all(stream: Events, after: str) -> Iterator[tuple[str, dict[str, Any]]]:
    while page := stream.read(after, _PAGE):
        yield from page
        after = page[-1][0]


def _follow(stream: Events, after: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield events as they arrive, and wait while Redis is unavailable."""
    unavailable = False
    while True:
        try:
            page = stream.read(after, _PAGE, _BLOCK_MS)
        except BrokerUnavailable as error:
            if not unavailable:
                echo(f"{error.message} Waiting until Redis is available.", "yellow", err=True)
            unavailable = True
            time.sleep(_RETRY_SECONDS)
            continue
        unavailable = False
        yield from page
        if page:
            after = page[-1][0]


def _format_event(key: str, event: dict[str, Any]) -> str:
    data = event["data"]
    result = f"{data['messageCount']} messages" if "messageCount" in data else data.get("error", {}).get("code", "")
    kind = str(event["type"]).rpartition(".")[2]
    ids = f"{event['id']}  {data.get('organizationId')}  {data.get('requestId') or data.get('jobId')}"
    return f"{key}  {event['time']}  {kind:9}  {ids}  {result}"
