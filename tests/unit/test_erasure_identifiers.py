"""By what a person's data is found, and by what it is not."""

import base64
import json

import pytest
from bson import ObjectId

from worker.erasure.identifiers import Identifiers

ORGANIZATION, CONTACT = ObjectId("6a0000000000000000000001"), ObjectId("6a0000000000000000000002")


def of(*texts: str) -> Identifiers:
    return Identifiers.of(ORGANIZATION, CONTACT, texts)


def test_short_texts_and_placeholders_of_redaction_identify_nobody() -> None:
    assert of("a@b.c", "[EMAIL_1]", "[PHONE_12]", "priya@example.com").texts == ("priya@example.com",)


def test_address_counts_only_together_with_the_organization() -> None:
    person = of("Jürgen@example.com")
    assert not person.is_persons(b"J\xc3\xbcrgen@example.com")
    for text in ("J\u00fcrgen@example.com".encode(), json.dumps("J\u00fcrgen@EXAMPLE.com").encode()):
        assert person.is_persons(text + str(ORGANIZATION).encode())


@pytest.mark.parametrize("written", ["JÜRGEN@example.com", "jürgen@example.com", "Jürgen@EXAMPLE.com"])
def test_letters_beyond_ascii_are_found_in_any_case(written: str) -> None:
    for text in (written.encode(), json.dumps(written).encode(), written.lower().encode(), written.upper().encode()):
        assert of(written).mentions(text)


@pytest.mark.parametrize("stored", ["+49 170 1234567", "0170 1234567", "491701234567", "0049 170 1234567"])
@pytest.mark.parametrize(
    "written",
    [
        *("+49 (170) 123-4567", "0170/1234567", "00491701234567", "+49-170-123.4567", "0170_1234567"),
        *(
            "+49\u00a0170\u2011123\u00a04567",
            "٠١٧٠ ١٢٣٤٥٦٧",
            "۰۱۷۰ ۱۲۳۴۵۶۷",
            "０１７０１２３４５６７",
        ),
        "0\u200b170\u00ad1234567",
    ],
)
def test_number_is_found_however_it_is_written(stored: str, written: str) -> None:
    assert of(stored).mentions(written.encode())
    assert of(stored).mentions(f"Straße 7, {written} ü".encode())


def test_other_numbers_are_not_found() -> None:
    assert not of("+49 170 1234567").mentions(b"+49 170 1234568 and 1701 23456")
    assert not of("12 34 56").mentions(b"1234 5678")


def test_body_of_a_celery_message_is_decoded() -> None:
    body = base64.b64encode(str(CONTACT).encode()).decode()
    assert of().is_persons(json.dumps({"body": body}).encode())
    assert not of().is_persons(json.dumps({"body": "AAAA"}).encode())


def test_body_of_a_rejected_celery_message_is_decoded() -> None:
    """Such a message is text within JSON, may be cut off, may have escaped slashes, and may be in a carrier."""
    body = base64.b64encode(b'???[[{"contactId": "%s"}], {}, {}]' % str(CONTACT).encode()).decode()
    message = json.dumps({"body": body})
    assert "/" in body
    for text in (message, message[:-6], message.replace("/", "\\/")):
        assert str(CONTACT) not in text
        assert of().is_persons(json.dumps({"message": text}).encode())
        assert of().is_persons(json.dumps({"body": base64.b64encode(text.encode()).decode()}).encode())


def test_large_documents_are_searched_in_the_type_in_which_pymongo_returns_them() -> None:
    person = Identifiers.of(ObjectId(), ObjectId(), ["a.person@example.com"])
    address = b"A.Person@Example.com"
    for data in (address, person.contact.binary, str(person.contact).upper().encode()):
        whole = memoryview(b"x" * 200_000 + data)
        assert (person.mentions(whole), person.names_contact(whole)) == (data is address, data is not address)
