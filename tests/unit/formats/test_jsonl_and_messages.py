"""Whole snapshots, and chat messages for supervised fine-tuning."""

import json
from typing import Any

import pytest
from bson import ObjectId

from support.snapshots import snapshot
from worker.domain.json_values import render
from worker.formats import NotRepresentable, Options, get_format, line

MESSAGES = get_format("messages")


def roles(given: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    (row,) = MESSAGES.rows(given, Options(**options))
    assert set(row) == {"messages"}
    return [(each["role"], each["content"]) for each in row["messages"]]


def test_jsonl_is_the_whole_snapshot_as_the_api_shows_it() -> None:
    given = snapshot(("contact", "Hi"), ("user", "Hello"), extra=ObjectId("665f00000000000000000009"))
    (row,) = get_format("jsonl").rows(given, Options())
    assert json.loads(line(row)) == render(given)
    assert list(row) == list(given)
    assert row["extra"] == "665f00000000000000000009"
    assert row["messages"][0]["timestamp"] == "2026-05-18T14:30:00.000Z"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("contact:Hi user:Hello", "user:Hi assistant:Hello"),
        ("user:Welcome contact:Hi user:Hello", "assistant:Welcome user:Hi assistant:Hello"),
        ("contact:a contact:b user:c user:d", "user:a\nb assistant:c\nd"),
        ("contact:a user:\u3000\n\t contact:b user:c", "user:a\nb assistant:c"),
        ("contact:a user:b contact:Thanks contact:!", "user:a assistant:b"),
        ("contact:\ta\n user:\x00b\u2028\u3000", "user:\ta\n assistant:\x00b\u2028\u3000"),
        ("somebody:a user:b user:", "user:a assistant:b"),
    ],
)
def test_messages_are_the_turns_up_to_the_last_answer(said: str, expected: str) -> None:
    assert roles(snapshot(*pairs(said))) == pairs(expected)


def test_message_without_content_is_an_empty_one() -> None:
    assert roles(snapshot(("contact", "a"), ("user", None), ("user", "b"))) == [("user", "a"), ("assistant", "b")]


def pairs(text: str) -> list[tuple[str, str]]:
    """`a:b c:d` as pairs."""
    return [(first, second) for first, _, second in (each.partition(":") for each in text.split(" "))]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (snapshot(), "no_text"),
        (snapshot(("contact", ""), ("user", "\u3000")), "no_text"),
        (snapshot(("contact", "a"), ("contact", "b")), "no_assistant_turn"),
        (snapshot(("user", "a"), ("user", "b")), "no_user_turn"),
        (snapshot(("user", "a"), ("contact", "b")), "no_user_turn"),
        (snapshot(("contact", "a"), ("user", "\ud800")), "invalid_text"),
        (snapshot(("contact", 5), ("user", "a")), "malformed_messages"),
        (snapshot(messages=None), "malformed_messages"),
        (snapshot(messages=["a"]), "malformed_messages"),
    ],
)
def test_what_has_no_answer_is_skipped(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotRepresentable) as skipped:
        MESSAGES.rows(given, Options())
    assert skipped.value.reason == reason
    assert skipped.value.detail.endswith(".")


def test_system_prompt_is_the_first_message() -> None:
    assert roles(snapshot(("contact", "a"), ("user", "b")), system="Be kind.")[0] == ("system", "Be kind.")


@pytest.mark.parametrize(("quality", "weight"), [("bad", 0), ("good", 1), (None, 1), ("excellent", 1)])
def test_assistant_turns_of_bad_snapshots_weigh_nothing_on_request(quality: str | None, weight: int) -> None:
    given = snapshot(("contact", "a"), ("user", "b"), quality=quality)
    (row,) = MESSAGES.rows(given, Options(system="Be kind.", weight_bad=True))
    assert [each["weight"] for each in row["messages"]] == [0, 0, weight]
    assert all("weight" not in each for each in MESSAGES.rows(given, Options())[0]["messages"])
