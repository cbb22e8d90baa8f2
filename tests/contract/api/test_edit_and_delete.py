"""Editing and deleting snapshots."""

from typing import Any

import pytest
from bson import ObjectId

from support.http import SNAPSHOTS
from support.served import Served
from support.waiting import eventually


def test_edit_changes_its_five_fields_and_nothing_else(served: Served) -> None:
    made = served.create(notes="before", tags=["a"], quality="bad", category="x")
    change = {"notes": "after", "tags": ["b"], "quality": "good", "category": None, "isArchived": True}

    def edit() -> dict[str, Any]:
        answer = served.http.patch(f"{SNAPSHOTS}/{made['_id']}", json=change)
        assert (answer.status_code, answer.json()["message"]) == (200, "Training snapshot updated successfully")
        edited: dict[str, Any] = answer.json()["data"]
        assert edited["updatedAt"] != made["updatedAt"]
        return edited

    # An edit in the millisecond of the creation has the same time.
    edited = eventually(edit, 5, 0.01)
    assert edited == {**made, **change, "updatedAt": edited["updatedAt"]}
    alone = served.http.patch(f"{SNAPSHOTS}/{made['_id']}", json={"isArchived": False}).json()["data"]
    assert alone == {**edited, "isArchived": False, "updatedAt": alone["updatedAt"]}


@pytest.mark.parametrize("field", ["messages", "messageCount", "contentHash", "contactId", "organizationId", "_id"])
def test_edit_of_a_captured_field_is_refused_as_immutable(served: Served, field: str) -> None:
    made = served.create()
    answer = served.http.patch(f"{SNAPSHOTS}/{made['_id']}", json={field: [], "notes": "x"})
    assert answer.status_code == 400
    assert "captured messages are immutable" in answer.json()["errors"][0]["message"]
    stored = served.http.get(f"{SNAPSHOTS}/{made['_id']}").json()["data"]
    assert (stored["messages"], stored["notes"]) == (made["messages"], None)


@pytest.mark.parametrize(
    "change", [{}, [], {"tags": None}, {"isArchived": "yes"}, {"$set": {"notes": "x"}}, {"notes": {"$gt": ""}}]
)
def test_invalid_edit_is_refused(served: Served, change: Any) -> None:
    made = served.create()
    assert served.http.patch(f"{SNAPSHOTS}/{made['_id']}", json=change).status_code == 400


def test_deleted_snapshot_is_not_found_and_the_ledger_has_the_time(served: Served) -> None:
    made = served.create()
    place = f"{SNAPSHOTS}/{made['_id']}"
    assert served.http.delete(place).json() == {"success": True, "message": "Training snapshot deleted successfully"}
    answers = [served.http.get(place), served.http.delete(place), served.http.patch(place, json={"notes": "x"})]
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(404, "deleted")] * 3
    entry = served.running.bench.entry(ObjectId(made["_id"]))
    assert "deletedAt" in entry
    served.running.publish([entry["_id"]])
    # A request behind it in the same queue is done after it.
    served.create()
    assert served.http.get(place).status_code == 404
