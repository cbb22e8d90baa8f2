"""`/api/training/backfills`."""

from typing import Any

from bson import ObjectId

from support.contacts import contact_with
from support.http import BACKFILLS
from support.served import Served
from support.waiting import eventually


def test_backfill_is_accepted_run_by_the_workers_and_shown(served: Served, own: ObjectId) -> None:
    contact_with(served.database, 1, 2, 3, 0, organization=own)
    http = served.as_("MANAGER", own)
    body: dict[str, Any] = {"minMessages": 1, "tags": ["old"], "quality": "good"}
    answer = http.post(BACKFILLS, json=body)
    assert answer.status_code == 202, answer.text
    made = answer.json()["data"]
    place = answer.headers["location"]
    assert place == f"{BACKFILLS}/{made['_id']}"

    def finished() -> dict[str, Any]:
        data: dict[str, Any] = served.as_("VIEWER", own).get(place).json()["data"]
        assert data["status"] == "completed", data
        return data

    done = eventually(finished, 60)
    assert (done["conversations"], done["accepted"], done["completed"], done["inFlight"]) == (3, 3, 3, 0)
    assert {name: done["asked"][name] for name in body} == body
    assert [each["_id"] for each in http.get(BACKFILLS).json()["data"]] == [made["_id"]]
    assert http.delete(place).json()["data"]["status"] == "completed"
    assert served.database.trainingsnapshots.count_documents({"organizationId": own, "quality": "good"}) == 3


def test_backfills_of_others_are_not_found_and_roles_are_checked(served: Served, own: ObjectId) -> None:
    contact_with(served.database, 1, organization=own)
    assert served.as_("AGENT", own).post(BACKFILLS, json={}).status_code == 403
    made = served.as_("ADMIN", own).post(BACKFILLS, json={}).json()["data"]
    place = f"{BACKFILLS}/{made['_id']}"
    assert served.as_("AGENT", own).delete(place).status_code == 403
    stranger = served.as_("ADMIN", ObjectId())
    assert stranger.get(place).status_code == 404
    assert stranger.delete(place).status_code == 404
    assert stranger.get(BACKFILLS).json()["data"] == []


def test_invalid_bodies_name_the_field(served: Served, own: ObjectId) -> None:
    http = served.as_("ADMIN", own)
    for body, field in (({"limit": 0}, "limit"), ({"userId": str(own)}, "userId"), ({"from": 5}, "from")):
        answer = http.post(BACKFILLS, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    assert http.post(BACKFILLS, json={}).status_code == 404
    assert http.get(f"{BACKFILLS}?limit=5").status_code == 400


def test_second_backfill_waits_for_the_end_of_the_first(served: Served, own: ObjectId) -> None:
    contact_with(served.database, 1, organization=own)
    http = served.as_("ADMIN", own)
    running = {"kind": "backfill", "organizationId": own, "spec": {}, "status": "running", "fence": 1, "stalled": 0}
    now = served.running.bench.service.clock.now()
    running |= {"acceptedAt": now, "enqueuedAt": now, "local": True}  # no sweep takes it
    served.database.snapshotjobs.insert_one({"_id": ObjectId(), **running})
    answer = http.post(BACKFILLS, json={"limit": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "backfill_in_progress")
    (found,) = http.get(BACKFILLS).json()["data"]
    assert http.delete(f"{BACKFILLS}/{found['_id']}").json()["data"]["status"] == "cancelled"
    assert http.post(BACKFILLS, json={"limit": 1}).status_code == 202
