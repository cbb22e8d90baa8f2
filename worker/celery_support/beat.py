"""Celery's beat, changed to name a file that it cannot write instead of ending with a traceback."""

from typing import Any

from celery.apps import beat as celery_beat

from worker.startup.files import require_files

base: Any = celery_beat.Beat  # its stubs lack the attributes


class Beat(base):  # type: ignore[misc]
    """`celery beat`. Ends with code 2 and one sentence if its schedule or its pidfile cannot be written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        require_files({"--schedule": self.schedule, "--pidfile": self.pidfile})
