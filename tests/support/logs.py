"""Restores the logging of the tests' own process, which `worker.log.configure` changes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from celery.worker.consumer import consumer


@contextmanager
def logging_restored() -> Iterator[None]:
    """Within the block, logging may be configured. Afterwards the other tests log as before."""
    root, dropping = logging.getLogger(), logging.getLogger(consumer.__name__)
    levels = {name: logging.getLogger(name).level for name in ("pymongo", "pymongo.command", "urllib3", "asyncio")}
    before = root.handlers[:], root.level, dropping.filters[:]
    try:
        yield
    finally:
        root.handlers[:], root.level, dropping.filters[:] = before
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
