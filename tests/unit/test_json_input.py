"""Faulty input costs time and memory linear in its size, whatever its shape."""

import json
import time
import tracemalloc

import pytest

from support.faulty_json import ID, SHAPES, UNDECODABLE, faulty_request
from worker.domain.json_input import check_size, read_json
from worker.domain.requests import SnapshotRequest
from worker.errors import InvalidRequest
from worker.intake.entries import read_entry, read_task
from worker.settings import Settings, load

LIMITS = Settings.model_construct()
MAX_BYTES = LIMITS.max_entry_bytes


@pytest.mark.parametrize("shape", SHAPES)
def test_1_mb_of_faults_costs_little_time_and_at_most_ten_times_its_size(shape: str) -> None:
    entry = {b"type": b"snapshot.requested", b"data": faulty_request(shape).encode()}
    refuse(entry)  # what is loaded only once does not count
    began = time.process_time()
    refuse(entry)
    seconds = time.process_time() - began
    tracemalloc.start()
    try:
        refuse(entry)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < 0.2  # 50 ms on a quiet machine
    assert peak < 10_000_000


def refuse(entry: dict[bytes, bytes]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_entry(entry, "1-1", LIMITS)
    assert 1 <= len(caught.value.errors) <= 20
    assert len(caught.value.message) < 5_000
    return caught.value


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in UNDECODABLE])
def test_the_same_shapes_as_a_celery_argument_are_refused_at_the_same_cost(shape: str) -> None:
    argument = json.loads(faulty_request(shape))
    began = time.process_time()
    with pytest.raises(InvalidRequest):
        read_task([argument], {}, "id", LIMITS)
    assert time.process_time() - began < 0.2


def test_an_input_over_the_size_limit_is_not_parsed() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_json(b"[" * (MAX_BYTES + 1), LIMITS, MAX_BYTES, "data")
    assert caught.value.errors == [
        {"field": "data", "message": f"should have at most {MAX_BYTES} bytes, but has {MAX_BYTES + 1}"}
    ]


def test_the_largest_valid_request_is_accepted() -> None:
    body = {
        "organizationId": ID,
        "contactId": ID,
        "messageIds": [f"{number:024x}" for number in range(LIMITS.max_message_ids)],
        "notes": "," * LIMITS.max_notes_length,
        "tags": ["[" * LIMITS.max_tag_length] * LIMITS.max_tags,
        "quality": "{" * LIMITS.max_label_length,
        "category": "," * LIMITS.max_label_length,
        "requestId": "," * 200,
    }
    raw = json.dumps(body, indent=2).encode()
    check_size(body, LIMITS, MAX_BYTES, "args.0")
    SnapshotRequest.read(read_json(raw, LIMITS, MAX_BYTES, "data"), LIMITS)


def test_limits_follow_the_settings() -> None:
    tight = load(max_message_ids=1, max_tags=0, max_notes_length=0, max_label_length=1, max_tag_length=1)
    ids = {"messageIds": [ID] * 1000}
    for check in (
        lambda: read_json(json.dumps(ids).encode(), tight, MAX_BYTES, "data"),
        lambda: check_size(ids, tight, MAX_BYTES, "data"),
        lambda: check_size({"notes": "x" * 2000}, tight, 1000, "data"),
    ):
        with pytest.raises(InvalidRequest):
            check()
