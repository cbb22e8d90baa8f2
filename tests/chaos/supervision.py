"""Starts child processes again when they die, in a thread of its own, as long as a block lasts."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from worker.local.processes import Child
from worker.local.supervisor import Supervisor


@contextmanager
def supervised(children: Iterable[Child], deaths: list[str], ready_seconds: float = 60.0) -> Iterator[None]:
    """Starts all at once and enters the block when all are ready; `deaths` gets the name of each that dies.

    If it ended by itself, the name is followed by its exit code: no fault explains that.
    """
    children = list(children)
    stop = threading.Event()

    def on_exit(child: Child, code: int | None, _: float) -> None:
        deaths.append(f"{child.name}, exit code {code}" if code and code > 0 else child.name)

    with Supervisor(children, on_exit) as supervisor:
        for child in children:
            child.start()
        for child in children:
            child.wait_until_ready(ready_seconds)
        thread = threading.Thread(target=_tend, args=(supervisor, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)


def _tend(supervisor: Supervisor, stop: threading.Event) -> None:
    with suppress(RuntimeError):  # the interpreter ends
        supervisor.watch(stop)
