"""What the worker tells of a message: ids, never what a request holds.

The arguments of a message stand in the worker's events, its answers to `inspect` and its log records, as the
producer wrote them in `argsrepr`; Flower shows all of these. Ours writes ids; a foreign one's is not shown.
"""

import re
from typing import Any

from celery.worker.request import Request

_OURS = re.compile(r"(\d+ requests from )?[0-9a-f]{24}")


class PrivateRequest(Request):
    """A Celery request that shows ledger ids or nothing."""

    def __init__(self, message: Any, **options: Any) -> None:
        headers = dict(options.pop("headers", None) or message.headers)
        said = headers.get("argsrepr")
        headers["argsrepr"] = said if isinstance(said, str) and _OURS.fullmatch(said) else "..."
        headers["kwargsrepr"] = "{}"
        super().__init__(message, headers=headers, **options)

    def info(self, safe: bool = False) -> Any:
        """For `inspect active` and the like, `safe` or not."""
        return super().info(safe=True)
