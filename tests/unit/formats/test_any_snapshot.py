"""Whatever a snapshot holds, a format gives valid rows or skips it with a reason."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from bson import DatetimeMS, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from support.snapshots import naive, snapshot
from worker.formats import FORMATS, Format, NotRepresentable, Options, Row, line
from worker.formats.turns import turns

TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=20),
    st.sampled_from(["", " ", "\u3000\n", "\ud800", "\x00", "User: hi", "[EOS]", "file://x", "\u2028", "Straße 🙂"]),
)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.binary(max_size=3), st.lists(TEXTS, max_size=2)
)
SENDERS = st.sampled_from(["user", "contact", "contact", "user", "bot"])
DATES = st.one_of(st.datetimes(timezones=st.just(UTC)), st.builds(DatetimeMS, st.integers(-(2**62), 2**62)))
QUALITIES = st.sampled_from(["good", "bad", None, "excellent"])
USUAL = st.builds(
    lambda said, quality: snapshot(*said, quality=quality),
    st.lists(st.tuples(SENDERS, TEXTS), max_size=8),
    QUALITIES,
)
FIELDS = st.sampled_from(sorted(snapshot()))
BROKEN = st.builds(
    lambda whole, fields, date: whole | {"snapshotDate": date} | fields,
    USUAL,
    st.dictionaries(
        FIELDS, st.one_of(ODD, st.lists(st.dictionaries(st.text(max_size=3), ODD), max_size=2)), max_size=1
    ),
    DATES,
)
OPTIONS = st.builds(Options, system=st.sampled_from([None, "Be kind."]), weight_bad=st.booleans())


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(max_examples=30, deadline=None)
@given(document=st.one_of(USUAL, BROKEN), options=OPTIONS)
def test_rows_are_valid_or_skipped_with_a_reason(name: str, document: dict[str, Any], options: Options) -> None:
    form = FORMATS[name]
    rows, lines, skipped = made(form, document, options)
    if skipped:
        assert re.fullmatch(r"[a-z_]+: .+\.", str(skipped))
        return
    assert rows == form.rows(document, options)
    assert lines == ([] if form.suffix == "parquet" else [line(each) for each in rows])
    assert [json.loads(each) for each in lines] == ([] if form.suffix == "parquet" else rows)
    columns = form.columns(options)
    if form.suffix == "parquet":
        table = form.table()
        assert [table.add(document), table.add(naive(document))] == [1, 1]
        assert table.take().equals(pa.Table.from_pylist(rows * 2, schema=table.schema))
    for row in rows:
        if name != "jsonl":
            assert list(row) == list(columns)
            assert fits(row, columns)


@pytest.mark.parametrize("name", sorted(name for name, form in FORMATS.items() if form.unread))
@settings(max_examples=30, deadline=None)
@given(document=st.one_of(USUAL, BROKEN), options=OPTIONS)
def test_fields_that_are_not_read_do_not_matter(name: str, document: dict[str, Any], options: Options) -> None:
    form = FORMATS[name]
    assert form.unread == ("messages.id", "messages.senderType", "messages.timestamp")
    messages = document.get("messages")
    if isinstance(messages, list):
        unread = {"id", "senderType", "timestamp"}
        left = [
            {key: value for key, value in each.items() if key not in unread} if isinstance(each, dict) else each
            for each in messages
        ]
        document = document | {"messages": left}
    whole, part = made(form, document | {"messages": messages}, options), made(form, document, options)
    assert (part[:2], str(part[2])) == (whole[:2], str(whole[2]))


def made(
    form: Format, document: dict[str, Any], options: Options
) -> tuple[list[Row], list[bytes], NotRepresentable | None]:
    """The rows and lines of a snapshot, or the reason for which it has none."""
    try:
        rows = form.rows(document, options)
        return rows, [] if form.suffix == "parquet" else form.lines(document, options), None
    except NotRepresentable as skipped:
        return [], [], skipped


CHATS: dict[str, Callable[[Row], list[tuple[str, str]]]] = {
    "messages": lambda row: [(each["role"], each["content"]) for each in row["messages"]],
    "kto": lambda row: [(each["role"], each["content"]) for each in row["prompt"] + row["completion"]],
    "sharegpt": lambda row: [
        ({"human": "user", "gpt": "assistant"}[each["from"]], each["value"]) for each in row["conversations"]
    ],
    "mistral": lambda row: [(each["role"], each["content"]) for each in row["messages"]],
    "vertex": lambda row: [
        ({"user": "user", "model": "assistant"}[each["role"]], each["parts"][0]["text"]) for each in row["contents"]
    ],
    "nova": lambda row: [(each["role"], each["content"][0]["text"]) for each in row["messages"]],
    "eval": lambda row: [*((each["role"], each["content"]) for each in row["input"]), ("assistant", row["target"])],
}


@pytest.mark.parametrize("name", sorted(CHATS))
@settings(max_examples=30, deadline=None)
@given(document=USUAL)
def test_chats_alternate_end_with_an_answer_and_say_what_the_snapshot_says(name: str, document: dict[str, Any]) -> None:
    try:
        (row,) = FORMATS[name].rows(document, Options())
    except NotRepresentable:
        return
    chat = CHATS[name](row)
    roles = [role for role, _ in chat]
    assert roles[-1] == "assistant"
    assert "user" in roles
    assert all(first != second for first, second in pairwise(roles))
    assert all(content.strip() for _, content in chat)
    whole = [tuple(each) for each in turns(document)]
    assert any(whole[start : start + len(chat)] == chat for start in (0, 1))
    if name not in {"messages", "kto", "eval"}:
        assert roles[0] == "user"
        assert len(roles) % 2 == 0


def fits(value: Any, kind: Any) -> bool:
    """Whether a value has the type of its column."""
    if value is None:
        return True
    match kind:
        case str():
            types = {"string": str, "int64": int, "bool": bool, "timestamp": datetime}
            return isinstance(value, types[kind])
        case [item]:
            return isinstance(value, list) and all(fits(each, item) for each in value)
        case _:
            return list(value) == list(kind) and all(fits(value[name], kind[name]) for name in kind)


def test_parquet_has_dates_as_moments_and_ids_as_text() -> None:
    moment = datetime(2026, 5, 18, 14, 30)  # noqa: DTZ001 - PyMongo returns naive dates unless it is told otherwise
    document = snapshot(("contact", ""), ("user", "b"), createdAt=moment, updatedAt=DatetimeMS(1), extra=ObjectId())
    (row,) = FORMATS["parquet"].rows(document, Options())
    assert row["_id"] == "665f00000000000000000001"
    assert row["createdAt"] == moment
    assert row["updatedAt"] == datetime(1970, 1, 1) + timedelta(milliseconds=1)  # noqa: DTZ001
    assert row["snapshotDate"] == document["snapshotDate"].replace(tzinfo=None)
    assert [(each["role"], each["content"]) for each in row["messages"]] == [("user", ""), ("assistant", "b")]
    assert "extra" not in row
    document["messages"] = [dict(reversed(each.items())) for each in document["messages"]]
    assert FORMATS["parquet"].rows(document, Options()) == [row]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"snapshotDate": DatetimeMS(2**60)}, "date_out_of_range"),
        ({"snapshotDate": "2026"}, "malformed_snapshot"),
        ({"tags": "refund"}, "malformed_snapshot"),
        ({"messageCount": True}, "malformed_snapshot"),
        ({"notes": "\ud800"}, "invalid_text"),
        ({"messages": snapshot(("contact", "a"), ("user", "\ud800"))["messages"]}, "invalid_text"),
        ({"messages": {}}, "malformed_messages"),
    ],
)
def test_parquet_skips_what_its_columns_cannot_hold(fields: dict[str, Any], reason: str) -> None:
    document, table = snapshot(("contact", "a"), **fields), FORMATS["parquet"].table()
    for each in (document, naive(document)):
        with pytest.raises(NotRepresentable) as skipped:
            table.add(each)
        assert skipped.value.reason == reason
    assert table.take() is None
