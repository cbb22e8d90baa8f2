"""A request that kills the process that assembles it."""

import os
import signal
from typing import Any

import worker.runs.plan


def install(tag: str) -> None:
    """Kills this process, or one that it forks, when it assembles a request with this tag."""
    assemble: Any = vars(worker.runs.plan)["assemble"]

    def deadly(request: Any, *args: Any, **kwargs: Any) -> Any:
        if tag in request.get("tags", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        return assemble(request, *args, **kwargs)

    vars(worker.runs.plan)["assemble"] = deadly
