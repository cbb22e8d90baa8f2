"""Several children in order: started one after the other, started again when they die, stopped in reverse."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from worker.local.processes import Child, ChildFailed

FIRST_DELAY = 0.5  # seconds before a dead child is started again; doubled each time
LONGEST_DELAY = 10.0
SETTLED_AFTER = 30.0  # seconds of life after which the delay is the first one again

Died = Callable[[Child, int | None, float], None]


class _Post:
    """What the supervisor knows about one child."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.restarts = 0
        self.delay = FIRST_DELAY
        self.started_at = time.monotonic()
        self.due_at: float | None = None


class Supervisor:
    """Use as a context manager: leaving it, by whatever way, stops the children.

    `died` is called with the child, its exit code and the seconds until it is started again.
    It has no thread of its own: someone calls `tend` now and then, or `watch`.
    """

    def __init__(self, children: Iterable[Child] = (), died: Died | None = None) -> None:
        self._posts = [_Post(child) for child in children]
        self._died = died

    @property
    def children(self) -> list[Child]:
        return [post.child for post in self._posts]

    def add(self, child: Child, timeout: float = 30.0) -> Child:
        """Start one more and wait until it is ready. Raises ChildFailed."""
        self._posts.append(_Post(child))
        child.start()
        child.wait_until_ready(timeout)
        return child

    def start(self, timeout: float = 30.0) -> None:
        """Start all in order, each when the one before is ready (`timeout` seconds for each). Raises ChildFailed."""
        for post in self._posts:
            post.child.start()
            post.child.wait_until_ready(timeout)
            post.started_at = time.monotonic()

    def restarts(self, child: Child) -> int:
        """How often this child was started again."""
        return sum(post.restarts for post in self._posts if post.child is child)

    def tend(self) -> None:
        """Start again what died and whose delay is over. Returns at once."""
        now = time.monotonic()
        for post in self._posts:
            if post.due_at is None:
                if not post.child.running:
                    self._bury(post, now)
            elif now >= post.due_at:
                self._revive(post, now)

    def _bury(self, post: _Post, now: float) -> None:
        if now - post.started_at > SETTLED_AFTER:
            post.delay = FIRST_DELAY
        post.due_at = now + post.delay
        if self._died:
            self._died(post.child, post.child.poll(), post.delay)
        post.delay = min(2 * post.delay, LONGEST_DELAY)

    def _revive(self, post: _Post, now: float) -> None:
        post.due_at = None
        post.started_at = now
        post.restarts += 1
        try:
            post.child.start()
        except ChildFailed:
            self._bury(post, now)

    def watch(self, until: threading.Event, interval: float = 0.2) -> None:
        """Tend the children until the event is set."""
        while not until.wait(interval):
            self.tend()

    def stop(self) -> None:
        """Stop all in reverse order, each bounded by its grace."""
        for child in reversed(self.children):
            child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
