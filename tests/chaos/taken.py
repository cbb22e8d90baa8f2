"""Which Celery messages with a request a worker has taken, as the workers themselves note it.

BRPOP removes a message from its list before anything records who has it: if the worker or its connection ends at that
moment, the message is gone. kombu then stores it as unacknowledged; from there on, only Redis can lose it.
"""

from pathlib import Path
from typing import Any

from kombu.transport import redis

_TASK = "snapshots.request"


def file_of(points: Path) -> Path:
    """Returns the file with the ids of the tasks, next to the folder of armed points."""
    return points.with_name("taken.txt")


def install(points: Path) -> None:
    """Notes the task id of each such message once Redis has it as unacknowledged, in this process."""
    file, owner = file_of(points), vars(redis)["QoS"]
    append: Any = owner.append

    def noting(self: Any, message: Any, delivery_tag: Any) -> None:
        append(self, message, delivery_tag)
        if isinstance(message.headers, dict) and message.headers.get("task") == _TASK:
            with file.open("a", encoding="utf-8", errors="replace") as lines:
                lines.write(f"{message.headers.get('id')}\n")

    owner.append = noting


def read(points: Path) -> frozenset[str]:
    """Returns the ids of the tasks."""
    file = file_of(points)
    return frozenset(file.read_text(encoding="utf-8").splitlines()) if file.exists() else frozenset()
