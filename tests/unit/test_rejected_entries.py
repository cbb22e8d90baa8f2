"""How the content of a rejected entry is shown."""

from worker.operations.data.rejected_entries import RejectedEntry


def shown(data: str) -> str:
    return RejectedEntry("1-0", "1-0", "invalid_request", "", {"data": data}).data


def test_content_is_indented() -> None:
    assert shown('{"tags": ["a", {}]}') == '{\n  "tags": [\n    "a",\n    {}\n  ]\n}'


def test_deeply_nested_content_is_shown_in_the_room_of_its_text() -> None:
    deep = "[" * 500 + "1," * 10_000 + '{"a": []}' + "]" * 500
    assert len(shown(deep)) < 2 * len(deep)


def test_content_that_is_not_json_is_shown_as_it_is() -> None:
    assert shown("{") == "{"
