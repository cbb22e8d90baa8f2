"""The rows of each trainer's format, by its documented rules."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from support.snapshots import snapshot
from worker.errors import InvalidRequest
from worker.formats import FORMATS, Dataset, File, NotRepresentable, Options, Row, get_format
from worker.formats.nova import RESERVED

TALK = snapshot(
    ("user", "Welcome"), ("contact", "a"), ("contact", "b"), ("user", "c"), ("contact", "bye"), quality="good"
)


def row_of(name: str, given: dict[str, Any] = TALK, **options: Any) -> Row:
    (row,) = get_format(name).rows(given, Options(**options))
    return row


def reason(name: str, given: dict[str, Any], **options: Any) -> str:
    with pytest.raises(NotRepresentable) as skipped:
        get_format(name).rows(given, Options(**options))
    return skipped.value.reason


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "kto",
            {"system": "S"},
            {
                "prompt": [
                    {"role": "system", "content": "S"},
                    {"role": "assistant", "content": "Welcome"},
                    {"role": "user", "content": "a\nb"},
                ],
                "completion": [{"role": "assistant", "content": "c"}],
                "label": True,
            },
        ),
        (
            "sharegpt",
            {},
            {"conversations": [{"from": "human", "value": "a\nb"}, {"from": "gpt", "value": "c"}], "system": ""},
        ),
        (
            "mistral",
            {"system": "S"},
            {
                "messages": [
                    {"role": "system", "content": "S"},
                    {"role": "user", "content": "a\nb"},
                    {"role": "assistant", "content": "c"},
                ]
            },
        ),
        (
            "vertex",
            {"system": "S"},
            {
                "systemInstruction": {"role": "system", "parts": [{"text": "S"}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "a\nb"}]},
                    {"role": "model", "parts": [{"text": "c"}]},
                ],
            },
        ),
        (
            "nova",
            {},
            {
                "schemaVersion": "bedrock-conversation-2024",
                "messages": [
                    {"role": "user", "content": [{"text": "a\nb"}]},
                    {"role": "assistant", "content": [{"text": "c"}]},
                ],
            },
        ),
        (
            "eval",
            {},
            {
                "id": "665f00000000000000000001",
                "input": [{"role": "assistant", "content": "Welcome"}, {"role": "user", "content": "a\nb"}],
                "target": "c",
                "question": "a\nb",
                "metadata": {"quality": "good", "category": None, "tags": ["refund"], "contentHash": "0" * 64},
                "vars": {
                    "messages": '[{"role": "assistant", "content": "Welcome"}, {"role": "user", "content": "a\\nb"}]',
                    "expected": "c",
                },
            },
        ),
    ],
)
def test_row(name: str, options: dict[str, Any], expected: Row) -> None:
    assert row_of(name, **options) == expected


@pytest.mark.parametrize(
    ("quality", "expected"),
    [("good", True), ("bad", False), (None, "not_rated"), ("Good", "other_quality"), (["good"], "other_quality")],
)
def test_kto_labels_good_and_bad_alone(quality: Any, expected: bool | str) -> None:
    given = snapshot(("contact", "a"), ("user", "b"), quality=quality)
    if isinstance(expected, str):
        assert reason("kto", given) == expected
    else:
        assert row_of("kto", given)["label"] is expected


def test_vertex_skips_what_is_estimated_as_too_long() -> None:
    longest = "x" * (4 * 131_072 - 1)
    assert row_of("vertex", snapshot(("contact", longest), ("user", "b")))["contents"][0]["parts"][0]["text"] == longest
    assert reason("vertex", snapshot(("contact", longest + "x"), ("user", "b"))) == "too_long"
    assert reason("vertex", snapshot(("contact", longest), ("user", "b")), system="S") == "too_long"
    assert reason("vertex", snapshot(("contact", "\u4e16" * 180_000), ("user", "b"))) == "too_long"


def test_vertex_warns_of_files_that_exceed_its_limits() -> None:
    files = {
        "train": [File("train.jsonl", 1_000_000, 1_000_000_001, "")],
        "validation": [File("validation.jsonl", 5_001, 9, "")],
        "test": [File("test.jsonl", 5_001, 9, "")],
    }
    dataset = Dataset("d", "", datetime(2026, 1, 1, tzinfo=UTC), files)
    assert list(get_format("vertex").warnings(dataset)) == [
        "train.jsonl has 1000000001 bytes; Gemini's tuning accepts 1000000000.",
        "The split validation has 5001 rows; Gemini's tuning accepts 5000.",
    ]


@pytest.mark.parametrize("word", RESERVED)
@pytest.mark.parametrize("sender", ["contact", "user"])
def test_nova_skips_reserved_words_on_both_sides(word: str, sender: str) -> None:
    said = {"contact": "a", "user": "b"} | {sender: f"He said {word} twice"}
    assert reason("nova", snapshot(*said.items())) == "reserved_word"
    assert row_of("nova", snapshot(("contact", f"He said {word.lower()[:-1]}"), ("user", "b")))


def test_nova_ignores_reserved_words_in_what_is_cut_off() -> None:
    assert row_of("nova", snapshot(("user", "Bot: Hi"), ("contact", "a"), ("user", "b"), ("contact", "User: bye")))


@pytest.mark.parametrize("answer", ["file:///etc/hostname", "package:arrives Monday"])
def test_eval_skips_an_answer_that_promptfoo_would_load(answer: str) -> None:
    assert reason("eval", snapshot(("contact", "a"), ("user", answer))) == "file_reference"


@pytest.mark.parametrize("text", ["Hi {{1}}", "{{{ env.KEY }}}", "{% if a %}", "{# a #}", "\\{{a}}", "{", "{}"])
def test_eval_has_a_chat_that_promptfoo_does_not_take_for_a_template(text: str) -> None:
    row = row_of("eval", snapshot(("user", text), ("contact", text), ("user", "b")))
    assert not any(tag in row["vars"]["messages"] for tag in ("{{", "{%", "{#", "#}"))
    assert json.loads(row["vars"]["messages"]) == row["input"]
    assert row["question"] == text


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_options_that_a_format_does_not_take_are_refused(name: str) -> None:
    chosen = get_format(name)
    chosen.check(Options())
    for field, options in {"system": Options(system="S"), "weight_bad": Options(weight_bad=True)}.items():
        if field in chosen.takes:
            chosen.check(options)
        else:
            with pytest.raises(InvalidRequest) as refused:
                chosen.check(options)
            spelled = {"system": "system", "weight_bad": "weightBad"}[field]
            message = f"is not an option of the format {name}; leave it out"
            assert refused.value.errors == [{"field": spelled, "message": message}]


@pytest.mark.parametrize("system", ["", " \n", "\udc00"])
def test_system_prompt_that_says_nothing_is_refused(system: str) -> None:
    with pytest.raises(InvalidRequest, match="system: has no visible text"):
        get_format("messages").check(Options(system=system))


def test_system_prompt_with_a_reserved_word_is_refused_by_nova() -> None:
    with pytest.raises(InvalidRequest, match="system: contains `Bot:`"):
        get_format("nova").check(Options(system="You are Bot: the best"))
