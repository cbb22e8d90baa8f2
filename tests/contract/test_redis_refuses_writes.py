"""A Redis that refuses writes is named by one sentence; Celery's tracebacks of it stay out of the log."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.programs import Order, run_programs
from support.redis_server import own_redis, valkey_server
from worker.settings import Settings

FAULTS = {"is full": ("--maxmemory", "100kb"), "is a replica": ("--replicaof", "127.0.0.1 1")}
CELERYS_LINES = {"worker": "Frequent restarts detected", "beat": "Message Error: Couldn't apply scheduled task sweep"}
"""Those that had a traceback."""


@pytest.mark.acceptance  # the processes run until they have said all of it
def test_worker_and_beat_log_no_traceback(settings: Settings, tmp_path: Path) -> None:
    orders: dict[tuple[str, str], Order] = {}
    with ExitStack() as stack:
        for number, (reason, options) in enumerate(FAULTS.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            client = stack.enter_context(own_redis(valkey_server(), folder, *options))
            environment = {
                "SNAPSHOTS_MONGO_URL": settings.mongo_url,
                "SNAPSHOTS_REDIS_URL": f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0",
                "SNAPSHOTS_SWEEP_INTERVAL": "1s",
            }
            for name, more in (("worker", ["-P", "solo"]), ("beat", ["--schedule", str(folder / "schedule")])):
                orders[reason, name] = Order(
                    "celery", ["-A", "worker", name, *more], environment, re.escape(CELERYS_LINES[name])
                )
        ended = run_programs(list(orders.values()))
    for (reason, name), each in zip(orders, ended, strict=True):
        assert reason in each.output
        assert "SNAPSHOTS_REDIS_URL" in each.output
        assert CELERYS_LINES[name] in each.output, "the time was too short"
        assert "Traceback" not in each.output
        assert 'File \\"' not in each.output
