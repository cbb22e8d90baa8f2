"""Exports and backfills on the operations pages."""

import html
import re
from pathlib import Path

import httpx
import pytest
from bson import ObjectId

from support.contacts import contact_with
from support.exporting import snapshot
from support.http import EXPORTS
from support.operations import ROOT, form_of, send
from support.served import Served
from support.waiting import eventually
from worker.jobs.store import Jobs

JOBS = f"{ROOT}/jobs"


def exported(served: Served, own: ObjectId, **asked: object) -> str:
    """Export four snapshots, of which `kto` skips one; return the id."""
    for number in range(4):
        made = snapshot(served.running.bench, number, _id=ObjectId(), organizationId=own)
        served.database.trainingsnapshots.insert_one(made)
    answer = served.as_("ADMIN", own).post(EXPORTS, json={"format": "kto", **asked})
    key = str(answer.json()["data"]["_id"])
    eventually(lambda: Jobs(served.running.bench.service).get(ObjectId(key)).is_finished, 60)
    return key


def text_of(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.unescape(answer.text)))


def test_export_is_listed_with_its_progress_and_shown_with_files_and_skip_reasons(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    key = exported(served, own, split="50/25/25", system="Be secret.", q="note")
    page = text_of(admin.get(JOBS))
    user = Jobs(served.running.bench.service).get(ObjectId(key)).user
    assert user
    for shown in (key, str(own), "completed", "kto", "4 of 4", str(user)):
        assert shown in page
    page = text_of(admin.get(f"{JOBS}/{key}"))
    for shown in (
        "not_rated",
        "Split 50/25/25",
        "System given",
        "Q given",
        "manifest.json",
        "croissant.json",
        "Rows 3",
    ):
        assert shown in page
    assert "Be secret." not in page
    assert "refreshes" not in page


def test_finished_export_is_deleted_with_its_files_after_a_confirmation(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    key = exported(served, own)
    folder = Path(served.exports) / key
    assert folder.is_dir()
    end = f"{JOBS}/{key}/end"
    assert f'href="{end}"' in admin.get(f"{JOBS}/{key}").text
    assert admin.post(end, data={"action": "delete"}).status_code == 403
    answer = send(admin, form_of(admin.get(end), end))
    assert (answer.status_code, answer.url.path) == (200, JOBS)
    assert "There are no exports." in answer.text
    assert not folder.exists()
    assert admin.get(f"{JOBS}/{key}").status_code == 404


def test_export_whose_files_cannot_be_removed_stays_and_the_page_says_why(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    key = exported(served, own)
    end = f"{JOBS}/{key}/end"
    form = form_of(admin.get(end), end)
    in_the_way = Path(served.exports) / f".{key}.removed"
    in_the_way.touch()
    answer = send(admin, form)
    assert (answer.status_code, "cannot be used: Not a directory" in text_of(answer)) == (503, True)
    in_the_way.unlink()
    assert (Path(served.exports) / key).is_dir()
    assert send(admin, form).status_code == 200
    assert not (Path(served.exports) / key).exists()


def test_job_in_progress_is_cancelled_and_never_deleted(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    jobs = Jobs(served.running.bench.service)
    job = jobs.accept("export", own, {"format": "jsonl"}, local=True)
    end = f"{JOBS}/{job.id}/end"
    form = form_of(admin.get(end), end)
    assert send(admin, form, action="delete").status_code == 400
    assert send(admin, form, action="destroy").status_code == 400
    assert "waiting for a worker" in admin.get(JOBS).text
    answer = send(admin, form)
    assert answer.url.path == f"{JOBS}/{job.id}"
    assert jobs.get(job.id).status == "cancelled"
    assert send(admin, form).status_code == 200, "it is cancelled already"


def test_backfill_is_shown_with_its_failures(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    contact_with(served.database, 2, 1, 0, organization=own)
    answer = served.as_("ADMIN", own).post("/api/training/backfills", json={"channels": ["sms"], "notes": "secret"})
    assert answer.status_code == 404, "none has this channel"
    answer = served.as_("ADMIN", own).post("/api/training/backfills", json={"notes": "secret", "tags": ["x", "y"]})
    key = answer.json()["data"]["_id"]
    eventually(lambda: Jobs(served.running.bench.service).get(ObjectId(key)).is_finished, 60)
    listed = text_of(admin.get(f"{JOBS}?kind=backfill"))
    assert key in listed
    assert "3 of 3" in listed
    page = text_of(admin.get(f"{JOBS}/{key}"))
    for shown in ("empty_conversation 1", "Tags x, y", "Notes given", "Conversations 3", "Completed 2", "In flight 0"):
        assert shown in page
    assert f"{key}/end" not in admin.get(f"{JOBS}/{key}").text
    assert "already" in admin.get(f"{JOBS}/{key}/end").text


def test_admin_sees_no_job_of_another_organization(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    job = Jobs(served.running.bench.service).accept("export", ObjectId(), {"format": "jsonl"}, local=True)
    assert str(job.id) not in admin.get(JOBS).text
    assert admin.get(f"{JOBS}?organization={job.organization}").status_code == 403
    own_form = form_of(admin.get(JOBS), f"{ROOT}/logout")
    for path in (f"{JOBS}/{job.id}", f"{JOBS}/{job.id}/end"):
        assert admin.get(path).status_code == 404
    own_form.action = f"{JOBS}/{job.id}/end"
    assert send(admin, own_form, action="cancel").status_code == 404
    assert not Jobs(served.running.bench.service).get(job.id).is_finished


def test_erasure_is_neither_shown_nor_cancelled(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    jobs = Jobs(served.running.bench.service)
    job = jobs.accept("erasure", own, {"subject": "x"}, enqueue=False)
    for path in (f"{JOBS}/{job.id}", f"{JOBS}/{job.id}/end"):
        assert admin.get(path).status_code == 404
    form = form_of(admin.get(JOBS), f"{ROOT}/logout")
    form.action = f"{JOBS}/{job.id}/end"
    assert send(admin, form, action="cancel").status_code == 404
    assert jobs.get(job.id).status != "cancelled"


def test_list_has_pages(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    jobs = Jobs(served.running.bench.service)
    keys = [str(jobs.accept("export", own, {"format": "jsonl"}, local=True).id) for _ in range(27)]
    first = admin.get(JOBS).text
    (path,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = admin.get(html.unescape(path)).text
    assert [key in first for key in keys] == [False] * 2 + [True] * 25
    assert [key in second for key in keys] == [True] * 2 + [False] * 25


@pytest.mark.parametrize("query", ["kind=import", "organization=x", "after=x"])
def test_invalid_filter_is_named(admin: httpx.Client, query: str) -> None:
    answer = admin.get(f"{JOBS}?{query}")
    assert (answer.status_code, query.partition("=")[0] in answer.text) == (400, True)
