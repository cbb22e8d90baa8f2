"""Placeholders, whole fields, and the cost of odd texts."""

import time

import pytest

from worker.redaction.kinds import KINDS
from worker.redaction.redactor import Part, Redactor
from worker.redaction.snapshot import redact_snapshot

ALL = Redactor(KINDS, ["US", "DE"])
SIZE = 100_000
ORDINARY = "Hello, I would like to know when my parcel arrives; I have waited for 3 weeks now. "
ODD = [
    *(
        "1234567890",
        "9",
        "a@a@a@",
        "+",
        "://",
        "1 ",
        "4444 ",
        "a@b.",
        "a at a ",
        ".1.2.3.4",
        ":a",
        ":",
        "-",
        "(",
        "eyJ",
    ),
    *("?token=", "/reset/", "[EMAIL_1", " @ a", "\x00", "٣", "王", "1-", "+1", "+49 ", "a@" + "b" * 70, "http://a:b"),
    *('"@', '\\"', "\u200b1", "@a.", "0 0", "12 34 ", "ab12"),
]


def test_same_value_has_the_same_number_in_order_of_appearance() -> None:
    messages = [{"content": "b@x.de"}, {"content": "A@x.de, +49 30 1234567"}, {"content": "a@x.de B@X.DE"}]
    fields = {
        "notes": "call 030 1234567, c@x.de",
        "customerName": "Anna Schmidt",
        "customerPhone": "+49301234567",
        "customerEmail": "a@x.de",
        "tags": ["vip", "b@x.de"],
    }
    result = redact_snapshot(ALL, messages, fields, [("Anna", "Schmidt")])
    assert [each["content"] for each in result.messages.values()] == [
        "[EMAIL_1]",
        "[EMAIL_2], [PHONE_1]",
        "[EMAIL_2] [EMAIL_1]",
    ]
    assert result.fields == {
        "notes": "call [PHONE_1], [EMAIL_3]",
        "customerName": "[NAME_1]",
        "customerPhone": "[PHONE_1]",
        "customerEmail": "[EMAIL_2]",
        "tags": ["vip", "[EMAIL_1]"],
    }
    assert result.counts == {"email": 7, "phone": 3, "name": 1}


def test_name_with_a_number_is_replaced_as_a_whole() -> None:
    for name in ("Anna Weber +491701234567", "Anna (anna@x.com)"):
        redacted = ALL([Part(name, "name"), Part("Anna, +49 170 1234567")], [("Anna", "Weber")])
        assert redacted.texts[0] == "[NAME_1]"
        assert redacted.texts[1].startswith("[NAME_1], [PHONE_1]")


def test_redacting_twice_changes_nothing_more_and_reuses_no_number() -> None:
    once = ALL([Part("a@x.de and b@x.de"), Part("Anna", "name")], [("Anna",)])
    again = ALL([*map(Part, once.texts), Part("c@x.de")], [("[NAME_1]",)])
    assert again.texts == ["[EMAIL_1] and [EMAIL_2]", "[NAME_1]", "[EMAIL_3]"]


def test_texts_that_are_repeated_count_each_time() -> None:
    messages = [
        {"content": "Yes, Anna", "sender": "Anna"},
        {"content": "b@x.de"},
        {"content": "Yes, Anna", "sender": "b@x.de"},
    ]
    result = redact_snapshot(ALL, messages, {"customerName": "Anna"}, [("Anna", "")])
    assert list(result.messages.values()) == [
        {"content": "Yes, [NAME_1]", "sender": "[NAME_1]"},
        {"content": "[EMAIL_1]"},
        {"content": "Yes, [NAME_1]", "sender": "[EMAIL_1]"},
    ]
    assert result.counts == {"email": 2, "name": 4}
    assert [each.place for each in result.changes] == [
        "messages[0].content",
        "messages[0].sender",
        "messages[1].content",
        "messages[2].content",
        "messages[2].sender",
        "customerName",
    ]


def test_snapshot_without_personal_data_does_not_change() -> None:
    result = redact_snapshot(ALL, [{"content": "Hello"}, {"content": None}], {"notes": None, "tags": ["refund"]})
    assert (result.messages, result.fields, result.counts) == ({}, {}, {})


@pytest.fixture(scope="module")
def ordinary() -> float:
    """The cost of ordinary text."""
    return _cost(ORDINARY)


@pytest.mark.parametrize("odd", ODD)
def test_odd_text_costs_about_as_much_as_other_text(odd: str, ordinary: float) -> None:
    # Within the costs of characters of some kind; quadratic time would be a thousandfold.
    assert _cost(odd) < 30 * ordinary + 0.05


def _cost(pattern: str) -> float:
    """Return the seconds of CPU of the cheapest of three runs: the first one may load the numbers of a country."""
    text = (pattern * (SIZE // len(pattern) + 1))[:SIZE]
    costs = []
    for _ in range(3):
        begin = time.process_time()
        ALL([Part(text)], [("Anna", "Schmidt")])
        costs.append(time.process_time() - begin)
    return min(costs)
