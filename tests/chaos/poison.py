"""A request that kills whatever process assembles it."""

import os
import signal
from typing import Any

import worker.runs.run


def install(tag: str) -> None:
    """In this process, and in those that it forks."""
    assemble: Any = vars(worker.runs.run)["assemble"]

    def deadly(request: Any, *args: Any, **kwargs: Any) -> Any:
        if tag in request.get("tags", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        return assemble(request, *args, **kwargs)

    vars(worker.runs.run)["assemble"] = deadly
