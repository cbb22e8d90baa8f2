"""What an export was asked for, as its record keeps it."""

from typing import Any

import pytest
from bson import ObjectId

from worker.errors import InvalidRequest
from worker.exports.spec import ExportSpec, read_spec
from worker.settings import load

ID = "6a1b2c3d4e5f60718293a4b5"
FIELDS: list[dict[str, Any]] = [
    {"from": "2026-05-18"},
    {"to": "2026-05-18T14:30:00.5+02:00"},
    {"quality": "good", "category": "sales", "tag": "refund"},
    {"contactId": ID, "conversationId": ID},
    {"isArchived": "all"},
    {"q": "50% (x"},
    {"format": "messages", "system": "Be kind.\n\n- Answer in\tone sentence.", "weightBad": True},
    {"split": "90/5/5", "stratify": "quality", "dedupe": True, "compress": "gzip"},
]


@pytest.mark.parametrize("given", FIELDS, ids=lambda given: next(iter(given)))
def test_record_keeps_every_field(given: dict[str, Any]) -> None:
    asked = ExportSpec.checked({"format": "jsonl", **given}, load())
    again = read_spec(asked.stored(), load())
    assert again == asked
    assert again.condition(ObjectId(ID)) == asked.condition(ObjectId(ID))
    assert set(asked.stored()) == {"format", *given}


def test_times_beyond_those_of_python_are_kept_as_the_first_and_the_last() -> None:
    given = {"format": "jsonl", "from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}
    stored = ExportSpec.checked(given, load()).stored()
    assert (stored["from"], stored["to"]) == ("0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"system": ""}, "should have at least 1 character"),
        ({"split": "9" * 51}, "should have at most 50 characters"),
        ({"format": 5}, "should be a valid string"),
        ({"redact": "email"}, "should be an array"),
    ],
    ids=str,
)
def test_messages_continue_the_name_of_the_field(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ExportSpec.checked({"format": "messages", **given}, load())
    assert refused.value.errors == [{"field": next(iter(given)), "message": fault}]
