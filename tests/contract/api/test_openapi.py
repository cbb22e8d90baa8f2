"""The OpenAPI document is complete and exact. `python tests/http_schema.py --cases 2000` runs more cases."""

import re
from pathlib import Path

import httpx
import pytest
from bson import ObjectId

from support.http import token
from support.http_schema import Ids, run_schemathesis
from support.served import Served


def test_document_has_every_operation_with_its_security_and_no_422(served: Served) -> None:
    document = httpx.get(f"{served.url}/openapi.json").json()
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {
        "POST /api/training/snapshots",
        "GET /api/training/snapshots",
        "GET /api/training/snapshots/{id}",
        "PATCH /api/training/snapshots/{id}",
        "DELETE /api/training/snapshots/{id}",
        "GET /api/training/export",
        "GET /api/training/stats",
        "POST /api/training/backfills",
        "GET /api/training/backfills",
        "GET /api/training/backfills/{id}",
        "DELETE /api/training/backfills/{id}",
        "POST /api/training/exports",
        "GET /api/training/exports",
        "GET /api/training/exports/{id}",
        "DELETE /api/training/exports/{id}",
        "GET /api/training/exports/{id}/files/{name}",
        "DELETE /api/training/contacts/{id}",
        "GET /api/training/erasures/{id}",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }
    assert not any("422" in each["responses"] for each in operations.values())
    assert all(("security" in each) == ("/api/" in name) for name, each in operations.items())
    create = operations["POST /api/training/snapshots"]
    statuses = (200, 201, 202, 400, 401, 403, 404, 409, 410, 413, 429, 503)
    assert set(create["responses"]) == set(map(str, statuses))
    show = operations["GET /api/training/snapshots/{id}"]
    assert set(show["responses"]) == set(map(str, (200, 202, 400, 401, 404, 410, 413, 429, 503)))
    assert create["requestBody"]["content"]["application/json"]["example"]["quality"] == "excellent"


def test_documentation_needs_no_other_server(served: Served) -> None:
    """tests/browser/test_docs_page.py uses it."""
    page = httpx.get(f"{served.url}/docs")
    assert page.status_code == 200
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text)
    files = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert len(files) == 3
    for file in files:
        answer = httpx.get(f"{served.url}/{file}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


def conforms_to_the_document(served: Served, folder: Path, whose: str, *options: str) -> None:
    made = served.create()
    ids = Ids([str(served.contact.id)], [made["_id"]], [])
    value = token(served.organization)
    if whose == "another":
        value = token(ObjectId())
        ids = Ids(ids.contacts, ids.snapshots, ["Priya", "Grüße", str(served.organization)])
    ended = run_schemathesis(served.url, value, ids, folder, "--seed=1", *options)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.timeout(400)  # it starts a program that makes some hundred requests
@pytest.mark.parametrize("whose", ["own", "another"])
def test_answers_conform_to_the_document(served: Served, tmp_path: Path, whose: str) -> None:
    conforms_to_the_document(served, tmp_path, whose, "--phases=examples,fuzzing", "--max-examples=2")


@pytest.mark.acceptance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("whose", ["own", "another"])
def test_answers_conform_to_the_document_in_2000_cases(served: Served, tmp_path: Path, whose: str) -> None:
    conforms_to_the_document(served, tmp_path, whose, "--max-examples=333")
