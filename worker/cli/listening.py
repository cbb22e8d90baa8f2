"""`snapshots listen`: takes in what producers add to the intake stream, and the closings that MongoDB tells of."""

import signal
import threading
from collections.abc import Callable

import click

from worker.bootstrap import service
from worker.closings.change_stream import ClosingsWatch
from worker.intake.listener import Listener
from worker.log import configure, get_logger
from worker.metrics import port as metrics_port
from worker.settings import settings

log = get_logger(__name__)


@click.command()
@click.pass_context
def listen(context: click.Context) -> None:
    """Take in requests and closings: from the Redis stream snapshots:requests, and as MongoDB tells of them.

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
    configure(settings())
    metrics_port.serve(settings())
    own = service()
    _ = own.connections.mongo  # made here, so that the two threads do not make two
    broken = threading.Event()
    watch = threading.Thread(target=_guarded, args=(ClosingsWatch(own).run, stop, broken), name="closings")
    watch.start()
    _guarded(Listener(own).run, stop, broken)
    watch.join()
    own.connections.close()
    context.exit(1 if broken.is_set() else 0)


def _guarded(run: Callable[[threading.Event], None], stop: threading.Event, broken: threading.Event) -> None:
    """Half a listener would be worse than none: where one part breaks both stop, and the process is started again."""
    try:
        run(stop)
    except Exception:
        log.exception("listener_broken")
        broken.set()
    finally:
        stop.set()
