"""What each kind finds, and what it leaves alone."""

import pytest

from worker.redaction.kinds import KINDS
from worker.redaction.redactor import Part, Redactor

PEOPLE = [("Anna", "Schmidt"), ("Will", "May")]

FOUND = [
    ("email", "write to jo.hn+x@mail.example.com.Thanks", "write to [EMAIL_1].Thanks"),
    ("email", "我的邮箱是zhang@example.com谢谢", "我的邮箱是[EMAIL_1]谢谢"),
    ("email", "почта: иван@пример.рф, спасибо", "почта: [EMAIL_1], спасибо"),
    ("email", "info@müller.de und ｊｏ＠ｅｘａｍｐｌｅ．ｃｏｍ", "[EMAIL_1] und [EMAIL_2]"),
    ("email", '"anna m"@example.org', "[EMAIL_1]"),
    ("email", "anna [at] example [dot] com", "[EMAIL_1]"),
    ("email", "anna at gmail dot com please", "[EMAIL_1] please"),
    ("phone", "call +49 170 1234567 or (+49) 170 1234567", "call [PHONE_1] or [PHONE_1]"),
    ("phone", "0170 1234567 / 030 123456-78", "[PHONE_1] / [PHONE_2]"),
    ("phone", "(212) 555-0147, 212.555.0147", "[PHONE_1], [PHONE_1]"),
    ("phone", "\u202a+1 429 555 0180\u202c at 14:30", "\u202a[PHONE_1]\u202c at 14:30"),
    ("phone", "电话13812345678谢谢", "电话[PHONE_1]谢谢"),
    ("phone", "٠١٧٠ ١٢٣٤٥٦٧", "[PHONE_1]"),
    ("phone", "मेरा नंबर ९८७६५ ४३२१० है", "मेरा नंबर [PHONE_1] है"),
    ("card", "4111 1111 1111 1111 exp 12/26", "[CARD_1] exp 12/26"),
    ("card", "3782-822463-10005 and 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[CARD_1] and [CARD_2]"),
    ("iban", "DE89 3704 0044 0532 0130 00 thanks", "[IBAN_1] thanks"),
    ("iban", "gb29NWBK60161331926819", "[IBAN_1]"),
    ("ip", "from 203.0.113.7 and 2001:db8::ff00:42:8329.", "from [IP_1] and [IP_2]."),
    ("url_secret", "https://x.example/r?token=abcdef123&x=1", "https://x.example/r?token=[URL_SECRET_1]&x=1"),
    ("url_secret", "ftp://u:p4ss@h.example/", "ftp://u:[URL_SECRET_1]@h.example/"),
    ("url_secret", "https://a.example/reset/abcdef1234567", "https://a.example/reset/[URL_SECRET_1]"),
    ("name", "Hi Will, I am anna schmidt. ANNA!", "Hi [NAME_1], I am [NAME_2]. [NAME_2]!"),
    ("name", "I asked Will about it, and so did May", "I asked [NAME_1] about it, and so did May"),
    ("phone", "Is this the right version? 030 121669", "Is this the right version? [PHONE_1]"),
    ("phone", "Desk: +1-903-140-4508x769", "Desk: [PHONE_1]"),
    ("card", "my card 501864667909", "my card [CARD_1]"),
    ("name", "Schmidt, Anna: Annas Tasche, Anna's", "[NAME_1]: [NAME_1]s Tasche, [NAME_1]'s"),
    ("national_id", "RSSMRA85T10A562S, 12345678Z", "[NATIONAL_ID_1], [NATIONAL_ID_2]"),
    ("national_id", "SSN 536-90-4399", "SSN [NATIONAL_ID_1]"),
]

UNTOUCHED = [
    "Order #4829103847 of 2024-03-15 14:22:07, invoice 2024-10-004512",
    "It costs $1,299.00 or 1.234.567,89 EUR; 12 500 000 in total",
    "v2.14.3, version 10.0.19045.3930, Chrome 120.0.6099.71",
    "1234 5678 9012 3456 is not a card",
    "@maria_92 and @john.doe wrote at 12:30:45",
    "550e8400-e29b-41d4-a716-446655440000 507f1f77bcf86cd799439011",
    "ISBN 978-3-16-148410-0, tracking 00340434161094021504",
    "May I help you? Will you come in May? I will. As may be",
    "std::vector, 127.0.0.1, aa:bb:cc:dd:ee:ff",
    "https://example.com/orders/550e8400-e29b-41d4-a716-446655440000?page=2",
    "15.03.2024, 03/15/2024, 1990-2000, 1700000000",
    "DE89 3704 0044 0532 0130 01",
    "Chrome 10.0.19406.436, 10.0.18356.677",
    "Я сказал: 100 000 000 и 3.14159265",
]


def redact(text: str, *kinds: str) -> str:
    redactor = Redactor(kinds or KINDS, ["DE", "US", "CN", "IN"])
    return redactor([Part(text)], PEOPLE).texts[0]


@pytest.mark.parametrize(("kind", "text", "expected"), FOUND)
def test_personal_data_becomes_a_placeholder_and_the_rest_stays(kind: str, text: str, expected: str) -> None:
    assert redact(text, kind) == expected
    assert redact(text) == expected


@pytest.mark.parametrize("text", UNTOUCHED)
def test_text_without_personal_data_stays_the_same(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(("kind", "text", "_"), FOUND)
def test_kind_that_is_not_wanted_stays(kind: str, text: str, _: str) -> None:
    assert f"[{kind.upper()}_" not in redact(text, *(each for each in KINDS if each != kind))


@pytest.mark.parametrize(
    ("people", "text", "expected"),
    [
        ([("小明", "王")], "我叫王小明，王先生", "我叫[NAME_1]，[NAME_1]先生"),
        ([("محمد", "الأحمد")], "مرحبا محمد الأحمد، ولمحمد", "مرحبا [NAME_1]، ولمحمد"),
        ([("Анна", "Иванова")], "Меня зовут анна иванова", "Меня зовут [NAME_1]"),
        ([("민수", "김")], "김민수입니다", "[NAME_1]입니다"),
        ([("太郎", "田中")], "田中さん、太郎です", "[NAME_1]さん、[NAME_1]です"),
        ([("José", "Núñez")], "Soy Jose Nunez, JOSÉ", "Soy [NAME_1], [NAME_1]"),
        ([("आरव", "शर्मा")], "मेरा नाम आरव शर्मा है", "मेरा नाम [NAME_1] है"),
        ([("Li", "Bo")], "Li Bo likes Bologna and Limes", "[NAME_1] likes Bologna and Limes"),
        ([("สมชาย", "ใจดี")], "ผมสมชายครับ", "ผม[NAME_1]ครับ"),
    ],
)
def test_names_in_many_scripts(people: list[tuple[str, str]], text: str, expected: str) -> None:
    assert Redactor(["name"])([Part(text)], people).texts == [expected]
