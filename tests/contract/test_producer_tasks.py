"""What becomes of a Celery producer's message that cannot be accepted."""

import json
from typing import Any

import pytest
from bson import ObjectId

from support.ledger import Bench
from tasks import base, closings, requests


@pytest.fixture(autouse=True)
def _on_bench(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, requests, closings):
        monkeypatch.setattr(module, "service", lambda: bench.service)


def recorded(bench: Bench) -> list[str]:
    entries: Any = bench.connections.redis.xrange(bench.settings.rejected_stream)
    return [json.loads(fields[b"reason"])["code"] for _, fields in entries]


def test_invalid_message_is_recorded(bench: Bench) -> None:
    requests.request.apply(({"organizationId": "x"},))
    closings.resolved.apply(({"organizationId": "x"},))
    assert recorded(bench) == ["invalid_request", "invalid_request"]


def test_unexpected_error_is_recorded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.service, "submit", fail)
    body = {"organizationId": str(bench.organization), "contactId": str(ObjectId())}
    assert requests.request.apply((body,)).successful()
    assert recorded(bench) == ["unexpected"]


@pytest.mark.parametrize("task", [requests.request, closings.resolved])
def test_message_of_a_killed_process_goes_back_to_its_queue(task: Any) -> None:
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert not task.acks_on_timeout
