"""Builds conversations in the neutral form and writes files of them."""

import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2026, 5, 13, 13, 14, 57, 199000, tzinfo=UTC)


def conversation(ref: str, messages: int = 3, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """Returns a conversation with its own contact, whose messages contain `text` and their place."""
    return {
        "conversation": {"ref": ref, "channelType": "sms", "status": "closed", "language": "en"},
        "contact": {"firstName": "Priya", "lastName": "Holloway", "email": f"{ref}@example.com"},
        "agent": {"firstName": "Ana", "lastName": "Whitfield", "email": "ana@agents.example.com"},
        "messages": [
            {
                "content": f"{text} {index}",
                "sender": "contact" if index % 2 else "user",
                "senderType": "CONTACT" if index % 2 else "HUMAN",
                "timestamp": (START + timedelta(seconds=index)).isoformat(timespec="milliseconds"),
            }
            for index in range(messages)
        ],
    } | fields


def write(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    """Writes one line per conversation, gzipped if the name ends in .gz; strings are written as they are."""
    content = "".join(f"{each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)}\n" for each in lines)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path
