"""The API serves the metrics, and every other process does so on a port of its own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.http import api
from support.ledger import Bench
from support.stack import stack
from support.waiting import eventually
from worker.metrics import port as metrics_port
from worker.runs.run import Run
from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("indexed")


def test_process_without_http_serves_metrics_on_its_own_port(bench: Bench) -> None:
    Run(bench.service)(bench.chunk(2))
    with served(bench.settings.model_copy(update={"metrics_port": 0})) as port:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    for name in (
        'snapshots_completed_total{trigger="client"} 2.0',
        "snapshots_intake_lost_total",
        "process_cpu_seconds_total",
    ):
        assert name in text


def test_process_works_although_its_metrics_port_is_taken(bench: Bench) -> None:
    with served(bench.settings.model_copy(update={"metrics_port": 0})) as port:
        assert metrics_port.serve(bench.settings.model_copy(update={"metrics_port": port})) is None
    assert metrics_port.serve(bench.settings) is None


@contextmanager
def served(settings: Settings) -> Iterator[int]:
    own = metrics_port.serve(settings)
    assert own is not None
    try:
        yield own.port
    finally:
        own.close()


def test_api_serves_metrics(bench: Bench, tmp_path: Path) -> None:
    Run(bench.service)(bench.chunk(2))
    with api(bench.settings, tmp_path) as (url, _):
        httpx.get(f"{url}/healthz")
        text = httpx.get(f"{url}/metrics", timeout=20).text
    assert 'snapshots_completed_total{trigger="client"} 2.0' in text
    assert 'snapshots_http_requests_total{method="GET",route="/healthz",status="200"} 1.0' in text
    assert "snapshots_identity_broken 0.0" in text


def test_worker_serves_metrics_if_a_port_is_set(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with stack(settings, tmp_path, {"METRICS_PORT": str(port)}) as running:
        keys = running.bench.chunk(3)
        running.publish(keys)
        running.finished(keys)

        def check() -> bool:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text
            assert 'snapshots_completed_total{trigger="client"} 3.0' in text
            assert 'snapshots_accept_to_event_seconds_count{trigger="client"} 3.0' in text
            return True

        eventually(check, 45)
        # Beat or the worker finds the port taken, and works nevertheless.
        eventually(lambda: "metrics_port_taken" in running.logs(), 45)


def test_host_of_metrics_that_no_host_can_have_is_no_reason_to_stop(settings: Settings) -> None:
    own = settings.model_copy(update={"metrics_port": 0, "metrics_host": "a" * 70})
    assert metrics_port.serve(own) is None
