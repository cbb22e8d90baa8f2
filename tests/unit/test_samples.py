"""The sample conversations of the demo."""

from collections import Counter
from importlib.resources import files

from worker.importing.neutral_form import parse

SAMPLES = [
    parse(line) for line in (files("worker.local") / "samples" / "conversations.jsonl").read_bytes().splitlines()
]


def test_samples_are_varied() -> None:
    assert len(SAMPLES) == len({each.header.ref for each in SAMPLES}) == 24
    assert {each.header.language for each in SAMPLES} == {"en", "es", "zh", "ja", "fa", "ar", "hi", "de"}
    assert {each.header.channel_type for each in SAMPLES} == {"whatsapp", "sms", "webchat"}
    types = Counter(message.sender_type for each in SAMPLES for message in each.messages)
    assert types.keys() == {"CONTACT", "HUMAN", "AI", "SYSTEM"}
    assert sum(not each.messages for each in SAMPLES) == 1
    assert max(Counter(each.contact_key for each in SAMPLES).values()) == 2


def test_samples_name_only_reserved_addresses_and_numbers() -> None:
    for each in SAMPLES:
        for person in filter(None, (each.contact, each.agent)):
            assert person.email
            assert person.email.endswith("example.com")
            assert person.phone_number is None or person.phone_number[5:10] == "55501"
