"""Shared by `snapshots up` and `snapshots demo`: the progress of the start, and Ctrl-C."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from worker.cli.group import TERMINATED

Show = Callable[[str], None]
"""Called with what the command is doing."""


class StopSignals:
    """Handles Ctrl-C and SIGTERM: the first one interrupts the command, or after `defer` only sets `stop`.

    Further signals are ignored, so that nothing interrupts the stopping of the processes.
    """

    def __init__(self, show: Show) -> None:
        self.stop = threading.Event()
        self.show = show
        self._interrupt = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def defer(self) -> None:
        """Let signals only set `stop` from now on."""
        self._interrupt = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.stop.is_set():
            return
        self.stop.set()
        self.show("stopping")
        if not self._interrupt:
            return
        if number == signal.SIGTERM:
            sys.exit(TERMINATED)
        raise KeyboardInterrupt


@contextmanager
def show_progress(console: Console, signals: StopSignals) -> Iterator[Show]:
    """Show what a command is doing: one line that changes on a terminal, elsewhere a line for each step."""
    outside = signals.show
    try:
        if console.is_terminal and not console.is_dumb_terminal:
            spinner = SpinnerColumn("line" if console.options.ascii_only else "dots")
            columns = (spinner, TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*columns, console=console, transient=True) as progress:
                task = progress.add_task("", total=None)
                signals.show = lambda text: progress.update(task, description=text)
                yield signals.show
        else:
            signals.show = _print_lines(console, time.monotonic())
            yield signals.show
    finally:
        signals.show = outside


def _print_lines(console: Console, started: float) -> Show:
    last = ""

    def show(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            line = f"{time.monotonic() - started:5.1f} s  {text}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    return show
