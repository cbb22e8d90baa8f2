"""Makes SIGTERM end Flower at any time. Flower 2.2 raises SystemExit wherever it is, and may hang during its start."""

import sys
from typing import Any

from flower import command
from tornado.ioloop import IOLoop


def end_from_the_loop() -> None:
    """Replace the handler that Flower is about to install: the event loop exits, at once or when it begins."""
    command.sigterm_handler = _exit_from_the_loop


def _exit_from_the_loop(number: int, frame: Any) -> None:
    command.logger.info("SIGTERM, shutting down")
    IOLoop.current().add_callback_from_signal(sys.exit, 0)
