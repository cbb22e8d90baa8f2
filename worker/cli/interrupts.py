"""Handles Ctrl-C in commands, so that what it interrupts is not reported as an error."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130


def install() -> None:
    """Suppress the message "Exception ignored in" for objects whose construction Ctrl-C has interrupted.

    Ctrl-C still raises KeyboardInterrupt. A handler that other code has installed is kept.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and _in_main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def ignore() -> None:
    """Ignore a second Ctrl-C: while Python exits, it would replace the exit code by that of a signal."""
    if _in_main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def exit_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process immediately while modules are imported: there, a KeyboardInterrupt can get lost."""
    before = signal.getsignal(signal.SIGINT)
    if before in (signal.default_int_handler, _interrupt) and _in_main_thread():
        signal.signal(signal.SIGINT, _exit)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
    else:
        yield


def _exit(_: int, __: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), b"Interrupted. Nothing was done.\n")
    os._exit(INTERRUPTED)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupt(_: int, frame: FrameType | None) -> None:
    sys.unraisablehook = _after_interrupt
    while frame:
        if frame.f_code is _after_interrupt.__code__:  # a KeyboardInterrupt would be lost here as well
            _repeat_soon()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _after_interrupt(unraisable: "sys.UnraisableHookArgs") -> None:
    """Drop errors in `__del__` of objects whose constructor was interrupted (PyMongo's `_Transaction` is one).

    A KeyboardInterrupt that was raised inside `__del__` would be lost, so it is raised once more.
    """
    if unraisable.exc_type is KeyboardInterrupt:
        _repeat_soon()


def _repeat_soon() -> None:
    """Repeat the Ctrl-C in a moment. A timer of the system, because a thread needs locks to start."""
    signal.signal(signal.SIGALRM, lambda _, __: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
