"""Shortens what Celery logs about a Redis that is down, full or read-only: no tracebacks, and few repeats."""

import logging
import time
from collections import Counter
from collections.abc import Callable

import redis
from billiard.exceptions import RestartFreqExceeded
from kombu.exceptions import OperationalError

_PAUSE = 10.0
"""How long the same sentence is suppressed, in seconds."""
_SENTENCES = 100
"""Maximum number of different sentences to remember."""
_REPEATED = ("consumer: Cannot connect", "Frequent restarts detected", "Message Error: Couldn't apply scheduled task")
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


class Repeats(logging.Filter):
    """Lets the same sentence about an outage pass once in 10 s, and then says how many were left out.

    A worker tries to connect to a full Redis six times a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self.not_before: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        sentence, now = record.getMessage().rstrip(), self._clock()
        if not sentence.startswith(_REPEATED):
            return True
        if now < self.not_before.get(sentence, now):
            self._left_out[sentence] += 1
            return False
        if len(self.not_before) >= _SENTENCES:
            self.not_before.clear()
            self._left_out.clear()
        self.not_before[sentence] = now + _PAUSE
        if count := self._left_out.pop(sentence, 0):
            record.msg, record.args = f"{sentence} (repeats suppressed: {count})", ()
        return True


_filters = (_WithoutTraceback(), Repeats())


def shorten() -> None:
    """Shorten what Celery's beat and consumer log about outages. Safe to call more than once."""
    for name in ("celery.beat", "celery.worker.consumer.consumer"):
        for each in _filters:
            logging.getLogger(name).addFilter(each)
