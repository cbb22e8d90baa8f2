"""A Redis that refuses writes is named by one sentence; Celery's tracebacks of it stay out of the log."""

from pathlib import Path

import pytest

from support.programs import Order, run_programs
from support.redis_server import own_redis, valkey_server
from worker.settings import Settings

CELERYS_LINES = ("Frequent restarts detected", "Message Error: Couldn't apply scheduled task sweep")
"""Those of worker and beat that had a traceback."""


@pytest.mark.parametrize(
    ("options", "reason"), [(("--maxmemory", "100kb"), "is full"), (("--replicaof", "127.0.0.1 1"), "is a replica")]
)
def test_worker_and_beat_log_no_traceback(
    options: tuple[str, ...], reason: str, settings: Settings, tmp_path: Path
) -> None:
    with own_redis(valkey_server(), tmp_path, *options) as client:
        environment = {
            "SNAPSHOTS_MONGO_URL": settings.mongo_url,
            "SNAPSHOTS_REDIS_URL": f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0",
            "SNAPSHOTS_SWEEP_INTERVAL": "1s",
            "PROGRAM_SECONDS": "6",
        }
        orders = [
            Order("celery", ["-A", "worker", "worker", "-P", "solo", "-c", "1"], environment),
            Order("celery", ["-A", "worker", "beat", "--schedule", str(tmp_path / "schedule")], environment),
        ]
        for ended in run_programs(orders):
            assert reason in ended.output
            assert "SNAPSHOTS_REDIS_URL" in ended.output
            assert CELERYS_LINES[ended.output.startswith("celery beat")] in ended.output, "the time was too short"
            assert "Traceback" not in ended.output
            assert 'File \\"' not in ended.output
