"""Traces: one per request, from the producer to the event and across the queue; nothing at all when they are off."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from support.commands import CHECKOUT, COMMAND, environment
from support.contacts import contact_with
from support.http import SNAPSHOTS, api, client, token
from support.ledger import Bench, bench_on
from support.otlp import Collector, collector
from support.stack import stack
from support.waiting import eventually
from worker.domain.ledger_entry import LedgerEntry
from worker.domain.traceparent import read_traceparent
from worker.errors import BrokerUnavailable
from worker.local.processes import Child
from worker.runs.run import Run
from worker.service import Service
from worker.settings import Settings
from worker.telemetry.spans import Spans
from worker.telemetry.tracing import TracedService, build_service

STEPS = ["load", "fetch", "assemble", "decide", "emit", "finish"]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def received() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest.fixture
def bench(settings: Settings, received: Collector) -> Iterator[Bench]:
    with bench_on(settings.model_copy(update={"traces": "otlp", "traces_url": received.url})) as made:
        yield made


@contextmanager
def traced(bench: Bench) -> Iterator[Spans]:
    """Trace what the bench does."""
    service = TracedService(bench.connections, bench.published)
    bench.service = service
    yield service.spans
    service.spans.close()


@pytest.fixture
def spans(bench: Bench) -> Iterator[Spans]:
    with traced(bench) as made:
        yield made


def trace_of(entry: LedgerEntry) -> str:
    _, trace, _, _ = entry["traceparent"].split("-")
    return str(trace)


def test_request_has_one_trace_from_its_accept_to_its_event(bench: Bench, spans: Spans, received: Collector) -> None:
    (key,) = bench.chunk(1)
    Run(bench.service)([key])
    spans.flush()
    entry = bench.entry(key)
    found = received.of(trace_of(entry))
    assert sorted(found) == sorted(["snapshots.accept", "snapshots.run", *STEPS])
    accept, run = found["snapshots.accept"], found["snapshots.run"]
    assert accept.parent == ""
    assert entry["traceparent"].startswith(f"00-{accept.trace}-{accept.id}-")
    assert run.parent == accept.id
    assert {found[name].parent for name in STEPS} == {run.id}
    times = [moment for name in STEPS for moment in (found[name].began, found[name].ended)]
    assert times == sorted(times)
    assert run.began <= times[0]
    assert times[-1] <= run.ended
    assert run.attributes == {
        "snapshots.id": str(key),
        "snapshots.organization_id": str(bench.organization),
        "snapshots.trigger": "client",
        "snapshots.round": 0,
        "snapshots.status": "completed",
    }


def test_each_request_of_a_chunk_has_a_trace_of_its_own(bench: Bench, spans: Spans, received: Collector) -> None:
    keys = bench.chunk(3)
    Run(bench.service)(keys)
    spans.flush()
    traces = [trace_of(each) for each in bench.entries(keys)]
    assert len(set(traces)) == 3
    for trace in traces:
        assert len(received.of(trace)) == 2 + len(STEPS)


def test_failures_and_postponements_are_recorded(bench: Bench, spans: Spans, received: Collector) -> None:
    (empty,) = bench.accepted(bench.asked(bench.contact()))
    (awaited,) = bench.accepted(bench.asked(ObjectId()))
    Run(bench.service)([empty, awaited])
    spans.flush()
    runs = {each.attributes["snapshots.id"]: each for each in received.spans if each.name == "snapshots.run"}
    assert runs[str(empty)].failed == "empty_conversation"
    assert (runs[str(awaited)].failed, runs[str(awaited)].attributes["snapshots.status"]) == (
        "parent_not_yet_there",
        "postponed",
    )
    Run(bench.service)([awaited])
    spans.flush()
    both = [each for each in received.spans if each.attributes.get("snapshots.id") == str(awaited)]
    assert [each.name for each in both] == ["snapshots.accept", "snapshots.run", "snapshots.run"]


def test_event_that_the_sweep_emits_is_in_the_requests_trace(
    bench: Bench, spans: Spans, received: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = bench.chunk(1)
    redis: Any = bench.connections.redis

    def away(*_: Any, **__: Any) -> None:
        raise BrokerUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(type(redis), "pipeline", away)
        Run(bench.service)([key])
    entry = bench.entry(key)
    assert entry["unsent"]
    bench.service.events.emit([entry])
    spans.flush()
    found = received.of(trace_of(entry))
    assert found["emit"].failed == found["snapshots.run"].failed == "BrokerUnavailable"
    assert found["snapshots.emit"].parent == found["snapshots.accept"].id


def test_no_span_holds_personal_data(bench: Bench, spans: Spans, received: Collector) -> None:
    contact = bench.contact(email="priya@example.com", phoneNumber="+15550100")
    conversation = bench.conversation(contact)
    keys = bench.accepted(bench.asked(contact, conversationId=conversation, notes="a secret note", tags=["vip"]))
    Run(bench.service)(keys)
    spans.flush()
    assert received.spans
    said = repr(received.spans)
    for text in ("Priya", "priya@", "+1555", "secret", "Hello", "vip"):
        assert text not in said


def test_collector_that_cannot_be_reached_fails_no_request(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"traces": "otlp", "traces_url": "http://127.0.0.1:1/v1/traces"})
    with bench_on(nowhere) as bench, traced(bench):
        keys = bench.chunk(2)
        Run(bench.service)(keys)
        assert {each["status"] for each in bench.entries(keys)} == {"completed"}


def test_off_nothing_is_imported_and_the_service_is_the_plain_one(settings: Settings) -> None:
    with bench_on(settings) as bench:
        assert type(build_service(bench.connections, bench.published)) is Service
    code = (
        "import sys; from worker.bootstrap import service; service();"
        # redis-py imports the SDK's metrics where they are installed
        "own = ('opentelemetry.sdk.trace', 'opentelemetry.exporter');"
        "print([each for each in sys.modules if each.startswith(own)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "faulty", [None, "", "00", PARENT.upper(), PARENT + "-x", PARENT.replace("00-", "ff-", 1), 5, b"\xff", "é" * 55]
)
def test_faulty_traceparent_is_none(faulty: Any) -> None:
    assert read_traceparent(faulty) is None


def test_valid_traceparent_is_kept_unchanged() -> None:
    assert read_traceparent(PARENT) == read_traceparent(PARENT.encode()) == PARENT


# --- with a producer, in real processes -----------------------------------------------------------------


def test_traceparent_is_passed_on_although_traces_are_off(settings: Settings) -> None:
    with bench_on(settings) as bench:
        asked = bench.asked(bench.contact())
        assert [bench.entry(key).get("traceparent") for key in bench.accepted(asked)] == [None]
        conversation = bench.conversation(bench.contact())
        owner = bench.database.conversations.find_one({"_id": conversation})["contactId"]
        (key,) = bench.accepted(replace(bench.asked(owner, conversationId=conversation), traceparent=PARENT))
        assert bench.entry(key)["traceparent"] == PARENT
        Run(bench.service)([key])
        (event,) = bench.events()
        assert event["traceparent"] == PARENT


def test_trace_that_the_producer_did_not_sample_is_not_recorded(
    bench: Bench, spans: Spans, received: Collector
) -> None:
    unsampled = PARENT.removesuffix("01") + "00"
    (key,) = bench.accepted(replace(bench.asked(bench.contact()), traceparent=unsampled))
    Run(bench.service)([key])
    spans.flush()
    assert received.spans == []
    assert bench.events()[0]["traceparent"].split("-")[1] == PARENT.split("-")[1]


def test_one_trace_from_every_kind_of_producer_across_processes(
    settings: Settings, tmp_path: Path, received: Collector
) -> None:
    env = {"TRACES": "otlp", "TRACES_URL": received.url}
    with stack(settings, tmp_path, env) as running, api(settings, tmp_path, env) as (url, _), listener(settings, env):
        contact = contact_with(running.database, 3)
        body = {"contactId": str(contact.id)}
        whole = {"organizationId": str(contact.organization), **body}
        headers = {each: PARENT.replace("0af7", 4 * each) for each in "abc"}
        with client(url, token(contact.organization)) as http:
            answer = http.post(SNAPSHOTS, json=body, headers={"traceparent": headers["a"]})
            assert answer.status_code == 201
        fields: Any = {"type": "snapshot.requested", "data": json.dumps(whole), "traceparent": headers["b"]}
        running.redis.xadd(settings.requests_stream, fields)
        running.app.send_task(
            "snapshots.request", args=[whole], queue="snapshots", headers={"traceparent": headers["c"]}
        )

        def has_every_span() -> bool:
            for each in headers.values():
                _, trace, producer, _ = each.split("-")
                found = received.of(trace)
                assert sorted(found) == sorted(["snapshots.accept", "snapshots.run", *STEPS])
                assert found["snapshots.accept"].parent == producer
                assert found["snapshots.run"].parent == found["snapshots.accept"].id
            return True

        eventually(has_every_span, 60)
        events = {each["traceparent"].split("-")[1] for each in running.bench.events()}
        assert events == {each.split("-")[1] for each in headers.values()}


@contextmanager
def listener(settings: Settings, env: dict[str, str]) -> Iterator[None]:
    own = environment(settings, **{f"SNAPSHOTS_{name}": value for name, value in env.items()})
    child = Child("listener", [*COMMAND, "listen"], own)
    child.start()
    try:
        yield
    finally:
        child.kill()


def test_opentelemetrys_own_off_switch_stops_no_request(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with bench_on(settings.model_copy(update={"traces": "otlp"})) as bench, traced(bench):
        (key,) = bench.chunk(1)
        assert Run(bench.service)([key]).completed == 1
