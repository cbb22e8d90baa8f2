"""Supervises child processes: starts them in order, restarts those that exit, stops them in reverse order."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from worker.local.processes import READY_SECONDS, Child, ChildFailed

FIRST_DELAY = 0.5  # seconds before a child is restarted; doubled each time
LONGEST_DELAY = 10.0
WATCH_INTERVAL = 0.2  # seconds between two looks for exited children
SETTLED_AFTER = 30.0  # seconds of running after which the delay is reset

OnExit = Callable[[Child, int | None, float], None]


class _Supervised:
    """The state of one child."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.restarts = 0
        self.delay = FIRST_DELAY
        self.started_at = time.monotonic()
        self.due_at: float | None = None


class Supervisor:
    """A context manager that stops its children at the end.

    `on_exit` is called with the child, its exit code and the seconds until its restart. There is no thread: call
    `restart_exited` regularly, or `watch`.
    """

    def __init__(self, children: Iterable[Child] = (), on_exit: OnExit | None = None) -> None:
        self._supervised = [_Supervised(child) for child in children]
        self._on_exit = on_exit

    @property
    def children(self) -> list[Child]:
        """The processes, in the order in which they were started."""
        return [each.child for each in self._supervised]

    def add(self, child: Child, timeout: float = READY_SECONDS, *, wait: bool = True) -> Child:
        """Start another child and, unless `wait` is false, wait until it is ready. Raises ChildFailed."""
        self._supervised.append(_Supervised(child))
        child.start()
        if wait:
            child.wait_until_ready(timeout)
        return child

    def start(self, timeout: float = READY_SECONDS) -> None:
        """Start all in order, each after the previous one is ready within `timeout` seconds. Raises ChildFailed."""
        for each in self._supervised:
            each.child.start()
            each.child.wait_until_ready(timeout)
            each.started_at = time.monotonic()

    def restarts(self, child: Child) -> int:
        """Return how many times this child was restarted."""
        return sum(each.restarts for each in self._supervised if each.child is child)

    def restart_exited(self) -> None:
        """Restart exited children whose delay is over. Returns immediately."""
        now = time.monotonic()
        for each in self._supervised:
            if each.due_at is None:
                if not each.child.running:
                    self._schedule_restart(each, now)
            elif now >= each.due_at:
                self._restart(each, now)

    def _schedule_restart(self, each: _Supervised, now: float) -> None:
        if now - each.started_at > SETTLED_AFTER:
            each.delay = FIRST_DELAY
        each.due_at = now + each.delay
        if self._on_exit:
            self._on_exit(each.child, each.child.poll(), each.delay)
        each.delay = min(2 * each.delay, LONGEST_DELAY)

    def _restart(self, each: _Supervised, now: float) -> None:
        each.due_at = None
        each.started_at = now
        each.restarts += 1
        try:
            each.child.start()
        except ChildFailed:
            self._schedule_restart(each, now)

    def watch(self, until: threading.Event) -> None:
        """Restart exited children, as `restart_exited` does, until the event is set."""
        while not until.wait(WATCH_INTERVAL):
            self.restart_exited()

    def stop(self) -> None:
        """Stop all in reverse order, each within its grace period."""
        for child in reversed(self.children):
            child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
