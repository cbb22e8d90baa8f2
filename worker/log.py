"""structlog: one pipeline for our records and the libraries', JSON or for a terminal.

Event names are static; what varies is in fields. Ids are bound when a task or request starts and cleared
when it ends. No record carries message text, names, phone numbers, addresses, notes or passwords.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from worker.settings import Settings

# To the last @ of the URL: a password that should have been escaped may hold one.
_PASSWORD = re.compile(r"""(\w+(?:\+\w+)?://[^\s:/@]*):[^\s"'<>]+@""")


def get_logger(name: str) -> Any:
    """A logger whose first argument is the event's static name."""
    return structlog.stdlib.get_logger(name)


def hide_passwords(text: str) -> str:
    """`redis://user:***@host` instead of the password of any URL in a text."""
    return _PASSWORD.sub(r"\1:***@", text)


def _without_passwords(_: Any, __: str, rendered: str) -> str:
    """Last, over the whole line: values within values and tracebacks are in it too."""
    return hide_passwords(rendered) if "://" in rendered else rendered


class _WithoutBodies(logging.Filter):
    """Celery logs the body of a message that it drops, a request perhaps; tasks/signals.py says which it was."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "body" in str(record.msg):
            record.msg, record.args, record.exc_info = "A message was dropped", (), None
        return True


_without_bodies = _WithoutBodies()


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
    # Rich's traceback, the console's default, shows local variables: messages and contacts.
    renderer: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(), _without_passwords]
        if as_json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback), _without_passwords]
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
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_without_bodies)
    # pymongo's command log would carry documents, that is message text.
    for chatty in ("pymongo", "pymongo.command", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


@contextmanager
def bound(**ids: Any) -> Iterator[None]:
    """These ids are on every record of the block, and none of them after it."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield
