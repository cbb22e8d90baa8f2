"""`snapshots listen`: takes in what producers add to the intake stream."""

import signal
import threading

import click

from worker import log
from worker.bootstrap import service
from worker.listener import Listener
from worker.settings import settings


@click.command()
def listen() -> None:
    """Take in requests and closings from the Redis stream snapshots:requests.

    Runs until SIGTERM or Ctrl-C, finishes what it has and ends with 0. Any number may run at once: what one
    leaves unfinished, another takes over. Both servers may be away for any time.

    \b
    Example:
        snapshots listen
        redis-cli XADD snapshots:requests '*' type snapshot.requested data '{"organizationId": "...", ...}'
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log.configure(settings())
    listener = Listener(service())
    try:
        listener.run(stop)
    finally:
        service().connections.close()
