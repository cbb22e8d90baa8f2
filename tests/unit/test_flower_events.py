"""Which parts of an event Flower stores, and with which logins it starts."""

from traceback import format_exception
from typing import Any

import pytest
from bson import ObjectId
from celery.events.state import Task

from worker.errors import StoreConflict
from worker.flower.events import begin_again, without_personal_data
from worker.flower.login import login_error
from worker.flower.task_requests import known_requests, retryable_requests
from worker.stores.wakeups import CREATE

KEY = "6a1b2c3d4e5f60718293a4b5"
OAUTH = {"FLOWER_OAUTH2_KEY": "key", "FLOWER_OAUTH2_SECRET": "secret", "FLOWER_OAUTH2_REDIRECT_URI": "https://x/login"}


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("args", KEY, KEY),
        ("args", f"200 requests from {KEY}", f"200 requests from {KEY}"),
        ("args", "...", "..."),
        ("args", "[{'email': 'priya@example.com'}]", "..."),
        ("args", f"{KEY} priya@example.com", "..."),
        ("args", [{"email": "priya@example.com"}], "..."),
        ("result", {"name": "Priya"}, "..."),
        ("kwargs", "{}", "{}"),
        ("kwargs", "{'email': 'priya@example.com'}", "..."),
        ("result", "None", "None"),
        ("result", "'Priya'", "..."),
        (
            "exception",
            "ContactNotFound('The organization has no such contact.')",
            "ContactNotFound('The organization has no such contact.')",
        ),
        ("exception", "KeyError('priya@example.com')", "KeyError(...)"),
        ("exception", "pymongo.errors.WriteError('Priya')", "pymongo(...)"),
    ],
)
def test_event_keeps_ledger_ids_and_our_own_errors(field: str, value: Any, shown: Any) -> None:
    clean = without_personal_data({"type": "task-sent", "uuid": "u", field: value})
    assert clean[field] == shown
    assert clean["uuid"] == "u"


def test_traceback_of_an_unexpected_error_is_hidden() -> None:
    event = {"type": "task-failed", "exception": "ValueError('Priya')", "traceback": "... ValueError: Priya"}
    assert "Priya" not in str(without_personal_data(event))
    ours = {"type": "task-retried", "exception": "StoreUnavailable('...')", "traceback": "File x, line 1"}
    assert without_personal_data(ours)["traceback"] == "File x, line 1"


def test_causes_of_our_errors_are_hidden() -> None:
    try:
        try:
            raise ValueError("Priya")
        except ValueError as error:
            raise StoreConflict from error
    except StoreConflict as error:
        chain = "".join(format_exception(error))
    event = {"type": "task-retried", "exception": "StoreConflict('...')", "traceback": chain}
    shown = without_personal_data(event)["traceback"]
    assert "Priya" in chain
    assert "ValueError" not in shown
    assert shown.startswith("Traceback")
    assert "StoreConflict" in shown


@pytest.mark.parametrize("event", [{"type": "worker-heartbeat", "active": 1}, {"type": "task-started", "uuid": "u"}])
def test_other_events_are_not_changed(event: dict[str, Any]) -> None:
    assert without_personal_data(event) == event


def test_failed_requests_of_a_chunk_stay_known_while_it_is_retried() -> None:
    """Another click on Retry comes after the worker has received the task again."""
    failed = [ObjectId(), ObjectId()]
    listing = "\n".join(f"{key}: contact_not_found: The organization has no such contact." for key in failed)
    task = Task("u", name=CREATE, args=f"3 requests from {KEY}", state="FAILURE", traceback=listing)
    begin_again(task)
    assert (task.state, task.traceback) == ("PENDING", None)
    assert retryable_requests(task) == failed
    assert known_requests(task) == [ObjectId(KEY), *failed]
    task.event("failed", 1.0, 1.0, {"traceback": listing.splitlines()[1]})
    assert retryable_requests(task) == failed[1:]


@pytest.mark.parametrize("login", ["operator:12345678", "operator:with:colons"])
def test_a_login_by_name_and_password_is_enough(login: str) -> None:
    assert login_error([login], "", None, {}) is None


@pytest.mark.parametrize("login", ["operator", "operator:", "operator:short", ":12345678", "operator:Schlüssel-2026"])
def test_a_login_without_a_good_password_is_refused(login: str) -> None:
    assert "at least 8 ASCII characters" in str(login_error([login], "", None, {}))


def test_no_login_is_refused() -> None:
    assert "a login is required" in str(login_error([], "", None, {}))


def test_oauth_is_a_login_if_all_its_settings_are_set() -> None:
    assert login_error([], r".*@example\.com", "flower.views.auth.GoogleAuth2LoginHandler", OAUTH) is None
    error = login_error([], r".*@example\.com", None, {**OAUTH, "FLOWER_OAUTH2_SECRET": None})
    assert error == "OAuth (FLOWER_AUTH) also needs FLOWER_AUTH_PROVIDER, FLOWER_OAUTH2_SECRET"


def test_two_logins_at_once_are_refused() -> None:
    assert "both logins" in str(login_error(["operator:12345678"], r".*@example\.com", None, OAUTH))
