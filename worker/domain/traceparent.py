"""The trace that a request belongs to, as its producer names it: `version-trace-span-flags` in hex.

https://www.w3.org/TR/trace-context/#traceparent-header
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md
"""

import re
from typing import Any

TRACEPARENT = "traceparent"
"""Its name as an HTTP header, in an intake entry, on a ledger entry and in an event."""
_SANE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def read_traceparent(given: Any) -> str | None:
    """As a producer gave it; None where it is none. A faulty one is no fault of the request: its trace begins anew."""
    text = given.decode("latin-1") if isinstance(given, bytes) else given
    return text if isinstance(text, str) and _SANE.fullmatch(text) else None
