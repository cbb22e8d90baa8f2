"""The Python client: what it needs, and that it says what the server would say."""

import subprocess
import sys
from typing import Any

import pytest
from bson import ObjectId

from worker.client.models import Closing, Request, fields_of
from worker.domain.requests import ConversationResolved, SnapshotRequest
from worker.errors import InvalidRequest

FORBIDDEN = (
    "bson",
    "pymongo",
    "celery",
    "kombu",
    "structlog",
    "pydantic_settings",
    "worker.settings",
    "worker.domain.requests",
)
ID = "6a0000000000000000000001"
WRONG: list[dict[str, Any]] = [
    {},
    {"organizationId": ID},
    {"contactId": "6a"},
    {"contactId": 5},
    {"contactId": None},
    {"conversationId": "z" * 24},
    {"messageIds": []},
    {"messageIds": [ID, ID]},
    {"messageIds": [ID, "x"]},
    {"messageIds": ID},
    {"notes": 5},
    {"notes": "a\x00"},
    {"notes": "\ud800"},
    {"tags": "vip"},
    {"tags": [""]},
    {"tags": [5]},
    {"tags": ["a\nb"]},
    {"quality": ["high"]},
    {"category": "a\tb"},
    {"requestId": ""},
    {"requestId": "r" * 201},
    {"requestId": "all:1"},
    {"requestId": " x"},
    {"unknown": 1},
]


def test_it_imports_nothing_of_the_database_or_celery() -> None:
    program = f"import sys, worker.client; print([each for each in {FORBIDDEN} if each in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_what_is_wrong_is_said_as_the_server_says_it(fields: dict[str, Any]) -> None:
    data = {"organizationId": ID, "contactId": ID, "requestId": "r"} | fields if fields else {}
    if list(fields) == ["organizationId"]:
        del data["contactId"]
    said = []
    for model in (Request, SnapshotRequest):
        with pytest.raises(InvalidRequest) as caught:
            model.read(data)
        said.append([each for each in caught.value.errors if each["field"] != "requestId" or "requestId" in data])
    assert said[0] == said[1]


def test_both_have_the_same_fields() -> None:
    assert set(Request.model_fields) == set(SnapshotRequest.model_fields)
    assert set(Closing.model_fields) == set(ConversationResolved.model_fields)


def test_ids_may_be_objects_and_collections_any() -> None:
    one, two = ObjectId(), ObjectId()
    fields = fields_of(one, str(two).upper(), {"message_ids": (each for each in (one, two)), "tags": {"vip"}})
    request = Request.read(fields | {"requestId": "r"})
    assert request.organization_id == str(one)
    assert request.contact_id == str(two)
    assert request.message_ids == [str(one), str(two)]
    assert request.tags == ["vip"]
