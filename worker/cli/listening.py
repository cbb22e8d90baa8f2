"""`snapshots listen`: reads the intake stream and MongoDB's change stream of closed conversations."""

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
from worker.startup.process import prepare

log = get_logger(__name__)


@click.command()
@click.pass_context
def listen(context: click.Context) -> None:
    """Accept requests from the Redis stream snapshots:requests, and closed conversations from MongoDB.

    Runs until SIGTERM or Ctrl-C, then finishes its current entries and exits with 0. Any number of listeners can run:
    one takes over what another left unfinished. It waits while a server is unavailable.

    \b
    Example:
        snapshots listen
        redis-cli XADD snapshots:requests '*' type snapshot.requested \\
            data '{"organizationId": "...", "contactId": "..."}'
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    configure(settings())
    prepare(settings())
    metrics_port.serve(settings())
    own = service()
    _ = own.connections.mongo  # created here, so that the two threads share one client
    broken = threading.Event()
    watch = threading.Thread(target=_guarded, args=(ClosingsWatch(own).run, stop, broken), name="closings")
    watch.start()
    _guarded(Listener(own).run, stop, broken)
    watch.join()
    own.connections.close()
    context.exit(1 if broken.is_set() else 0)


def _guarded(run: Callable[[threading.Event], None], stop: threading.Event, broken: threading.Event) -> None:
    """Stop both threads if one breaks, so that the process is restarted as a whole."""
    try:
        run(stop)
    except Exception:
        log.exception("listener_failed")
        broken.set()
    finally:
        stop.set()
