"""Logging: one structlog pipeline for this project's records and the libraries', as JSON or for a terminal.

Event names are static and data is in fields. Ids are bound when a task or request starts and cleared when it ends. No
record contains message text, names, phone numbers, addresses, notes or passwords.
"""

import logging
import re
import sys
from functools import cache
from typing import Any

import structlog

from worker.settings import Settings

# Matches up to the last @ of the URL, because a password that was not escaped may contain one.
_PASSWORD = re.compile(r"""(\w+(?:\+\w+)?://[^\s:/@]*):[^\s"'<>]+@""")
_OPTION = re.compile(r"""(sentinel_password=)[^&\s"'<>]+""")


def get_logger(name: str) -> Any:
    """Return a logger whose methods take a static event name, then fields."""
    return structlog.stdlib.get_logger(name)


def hide_passwords(text: str) -> str:
    """Replace the password of every URL in a text: `redis://user:***@host`."""
    return _OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def _without_passwords(_: Any, __: str, rendered: str) -> str:
    """Hide passwords in the rendered line, which includes nested values and tracebacks. Runs last."""
    return hide_passwords(rendered) if "://" in rendered else rendered


class _WithoutBodies(logging.Filter):
    """Removes message bodies, which Celery logs when it drops a message. Our consumer logs which message it was."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "body" in str(record.msg):
            record.msg, record.args, record.exc_info = "A message was dropped", (), None
        return True


_without_bodies = _WithoutBodies()


def configure(settings: Settings) -> None:
    """Send all records of this process to standard error, formatted once."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not is_terminal)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # The console's default, Rich's traceback, shows local variables: messages and contacts.
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
    if weakness := settings.redis.weakness:
        _warn_once(weakness)
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_without_bodies)
    # PyMongo's command log would contain documents, that is message text.
    for name in ("pymongo", "pymongo.command", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


@cache  # a worker configures its log before and after Celery has read its options
def _warn_once(weakness: str) -> None:
    get_logger(__name__).warning("redis_not_verified", reason=weakness)
