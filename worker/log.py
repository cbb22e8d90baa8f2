"""structlog: one pipeline for our records and the libraries', JSON or for a terminal.

Event names are static; what varies is in fields. Ids are bound when a task or request starts and cleared
when it ends. No record carries message text, names, phone numbers, addresses, notes or passwords.
"""

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from worker.settings import Settings

_PASSWORD = re.compile(r"(\w+(?:\+\w+)?://[^\s:/@]*):[^\s@/]+@")


def get_logger(name: str) -> Any:
    """A logger whose first argument is the event's static name."""
    return structlog.stdlib.get_logger(name)


def hide_passwords(text: str) -> str:
    """`redis://user:***@host` instead of the password of any URL in a text."""
    return _PASSWORD.sub(r"\1:***@", text)


def _without_passwords(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = hide_passwords(value)
    return event


def configure(settings: Settings) -> None:
    """Sends all records of this process to standard error, once formatted."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Any] = (
        [structlog.processors.format_exc_info, _without_passwords, structlog.processors.JSONRenderer()]
        if as_json
        else [_without_passwords, structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # pymongo's command log would carry documents, that is message text.
    for chatty in ("pymongo", "pymongo.command", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


@contextmanager
def bound(**ids: Any) -> Iterator[None]:
    """These ids are on every record of the block, and none of them after it."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield
