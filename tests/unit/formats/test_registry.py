"""Formats are found by name, and a row is one line of JSON."""

import json

import pytest

from worker.errors import InvalidRequest
from worker.formats import FORMATS, NotRepresentable, get_format, line


def test_formats_are_found_by_the_name_of_their_module() -> None:
    assert {name: type(each).__module__.rpartition(".")[2] for name, each in FORMATS.items()} == {
        name: name for name in FORMATS
    }
    assert {"jsonl", "messages"} <= set(FORMATS)
    assert get_format("messages") is FORMATS["messages"]


def test_unknown_format_is_refused_with_the_field_and_the_names() -> None:
    with pytest.raises(InvalidRequest, match=r"format: is not a format; it is one of .*jsonl, .*messages"):
        get_format("csv")


def test_line_is_compact_utf8_in_the_order_of_the_row() -> None:
    assert line({"b": "é\n\x00", "a": [1, None]}) == '{"b":"é\\n\\u0000","a":[1,null]}\n'.encode()


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\r", "\n", "\x1c", "\x0b"])
def test_line_is_one_line_for_every_reader(end: str) -> None:
    row = {"text": f"one{end}two"}
    written = line(row).decode()
    assert len(written.splitlines()) == 1
    assert json.loads(written) == row


def test_text_that_utf8_cannot_represent_is_skipped() -> None:
    with pytest.raises(NotRepresentable, match="invalid_text"):
        line({"text": "\ud800"})
