"""What Flower is given to know, and which logins it starts with."""

from typing import Any

import pytest

from worker.flower.labels import login_fault, without_personal_data

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
def test_an_event_keeps_ids_and_reasons_of_ours(field: str, value: str, shown: str) -> None:
    clean = without_personal_data({"type": "task-sent", "uuid": "u", field: value})
    assert clean[field] == shown
    assert clean["uuid"] == "u"


def test_the_traceback_of_an_error_that_no_one_foresaw_is_left_out() -> None:
    event = {"type": "task-failed", "exception": "ValueError('Priya')", "traceback": "... ValueError: Priya"}
    assert "Priya" not in str(without_personal_data(event))
    ours = {"type": "task-retried", "exception": "StoreUnavailable('...')", "traceback": "File x, line 1"}
    assert without_personal_data(ours)["traceback"] == "File x, line 1"


@pytest.mark.parametrize("event", [{"type": "worker-heartbeat", "active": 1}, {"type": "task-started", "uuid": "u"}])
def test_other_events_are_left_as_they_are(event: dict[str, Any]) -> None:
    assert without_personal_data(event) == event


@pytest.mark.parametrize("login", ["operator:12345678", "operator:with:colons"])
def test_a_login_by_name_and_password_is_enough(login: str) -> None:
    assert login_fault([login], "", None, {}) is None


@pytest.mark.parametrize("login", ["operator", "operator:", "operator:short", ":12345678"])
def test_a_login_without_a_good_password_is_refused(login: str) -> None:
    assert "8 characters or more" in str(login_fault([login], "", None, {}))


def test_no_login_is_refused() -> None:
    assert "a login is required" in str(login_fault([], "", None, {}))


def test_oauth_is_a_login_once_all_of_it_is_set() -> None:
    assert login_fault([], r".*@example\.com", "flower.views.auth.GoogleAuth2LoginHandler", OAUTH) is None
    fault = login_fault([], r".*@example\.com", None, {**OAUTH, "FLOWER_OAUTH2_SECRET": None})
    assert fault == "OAuth (FLOWER_AUTH) needs FLOWER_AUTH_PROVIDER, FLOWER_OAUTH2_SECRET as well"


def test_two_logins_at_once_are_refused() -> None:
    assert "not both" in str(login_fault(["operator:12345678"], r".*@example\.com", None, OAUTH))
