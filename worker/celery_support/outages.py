"""Keeps Celery's tracebacks of a Redis that is down, full or read-only out of the log: one line is enough each time."""

import logging

import redis
from billiard.exceptions import RestartFreqExceeded
from kombu.exceptions import OperationalError

_OUTAGES = (redis.RedisError, OperationalError, RestartFreqExceeded)


class _WithoutTraceback(logging.Filter):
    """Cuts what belongs to the traceback: the exception, and the stack that beat writes into its message."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        while error is not None and not isinstance(error, _OUTAGES):
            error = error.__cause__ or error.__context__
        if error is not None:
            record.msg, record.args = record.getMessage().partition("\n")[0], ()
            record.exc_info = None
        return True


_without_traceback = _WithoutTraceback()


def shorten() -> None:
    """Shorten what Celery's beat and consumer log of outages. It can be repeated."""
    for name in ("celery.beat", "celery.worker.consumer.consumer"):
        logging.getLogger(name).addFilter(_without_traceback)
