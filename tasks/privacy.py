"""Hides the arguments of messages, except for ledger ids, in everything that a worker shows.

A worker's events, its answers to `inspect` and its log records contain the arguments as the producer wrote them in
`argsrepr`, and Flower shows all of these. Our producers write ids there; the arguments of other producers are not
shown.
"""

import re
from typing import Any

from celery.worker.request import Request

_LEDGER_IDS = re.compile(r"(\d+ requests from )?[0-9a-f]{24}")


class PrivateRequest(Request):
    """A Celery request that shows ledger ids, or `...` in place of other arguments."""

    def __init__(self, message: Any, **options: Any) -> None:
        headers = dict(options.pop("headers", None) or message.headers)
        given = headers.get("argsrepr")
        headers["argsrepr"] = given if isinstance(given, str) and _LEDGER_IDS.fullmatch(given) else "..."
        headers["kwargsrepr"] = "{}"
        super().__init__(message, headers=headers, **options)

    def info(self, safe: bool = False) -> Any:
        """Return what `inspect active` shows, which never includes the arguments themselves."""
        return super().info(safe=True)
