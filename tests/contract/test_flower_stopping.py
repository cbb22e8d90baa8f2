"""SIGTERM ends Flower also while it starts.

An exception that the handler raised in the middle of the start made it hang, about once in ten times.
"""

import os
import subprocess
from pathlib import Path

from support.commands import COMMAND
from support.waiting import allowed
from worker.celery_support.layout import flower_config
from worker.settings import Settings

SIGNALLED_AT_ITS_START = f"""
from pathlib import Path
exec(Path({str(flower_config())!r}).read_text())
import os, signal
from flower.events import Events
_started = Events.start
def _start(self):
    _started(self)
    os.kill(os.getpid(), signal.SIGTERM)
    print("The start goes on.")
Events.start = _start
"""


def test_sigterm_during_the_start_ends_flower(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(SIGNALLED_AT_ITS_START)
    servers = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_REDIS_URL": settings.redis_url}
    environment = {**os.environ, **servers, "FLOWER_BASIC_AUTH": "operator:long-enough"}
    arguments = ["celery", "flower", "--port=0", f"--conf={tmp_path / 'conf.py'}", f"--db={tmp_path / 'db'}"]
    ended = subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=allowed(20), check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "shutting down" in ended.stderr
    assert "The start goes on." in ended.stdout
