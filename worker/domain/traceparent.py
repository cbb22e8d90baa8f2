"""Reads the W3C `traceparent` of a request: `version-trace-span-flags` in hex.

https://www.w3.org/TR/trace-context/#traceparent-header
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md
"""

import re
from typing import Any, Final

TRACEPARENT: Final = "traceparent"
"""The name of the HTTP header, and of the field in intake entries, ledger entries and events."""
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def read_traceparent(given: Any) -> str | None:
    """Return a producer's traceparent, or None if it is missing or invalid. Without one, the request starts a trace.

    An invalid traceparent does not make the request invalid: https://www.w3.org/TR/trace-context/#processing-model
    """
    text = given.decode("latin-1") if isinstance(given, bytes) else given
    return text if isinstance(text, str) and _VALID.fullmatch(text) else None
