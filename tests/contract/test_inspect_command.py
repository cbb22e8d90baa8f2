"""`snapshots inspect`: the settings that it prints for a platform with other names give a correct first snapshot."""

import re

import pytest
from bson import ObjectId

from support.commands import environment, run
from support.contacts import contact_with
from support.odd_platform import NAMES, Odd
from support.pipeline import service_on
from worker.settings import Settings, load


def test_printed_settings_make_the_platform_fit_and_give_a_correct_snapshot(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        odd.close()
        odd.database.customers.update_one({}, {"$unset": {"firstName": ""}})
    first = run(environment(settings), "inspect")
    assert first.code == 1, first.stderr
    assert first.stdout.count("→ tenant.ref") == 4  # for each collection
    exported = dict(re.findall(r"^export (SNAPSHOTS_\w+)=(.*)$", first.stdout, re.MULTILINE))
    named = {name.removeprefix("SNAPSHOTS_").lower(): value for name, value in exported.items()}
    values = {name for name in NAMES if name.endswith("_values")}
    assert {name: value for name, value in named.items() if name not in values} == {
        name: value for name, value in NAMES.items() if name not in values
    }
    second = run(environment(settings, **exported), "inspect", "--json")
    assert second.code == 0, second.stdout
    assert second.json["fits"]
    assert second.json["settings"] == {}
    own = {"redis_url": settings.redis_url, "mongo_url": settings.mongo_url, "mongo_database": settings.mongo_database}
    with service_on(load(**own, **named)) as service:
        snapshot = odd.snapshot(service, conversationId=odd.chat)
    assert [each["content"] for each in snapshot["messages"]] == ["Text 0", "Text 1", "Text 2", "Text 3"]
    assert [each["senderType"] for each in snapshot["messages"]] == ["CONTACT", "HUMAN", "AI", "CONTACT"]
    assert (snapshot["customerName"], snapshot["omittedMessageCount"]) == ("Priya Holloway", 2)


def test_author_of_a_message_is_not_taken_for_its_contact(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        lines = odd.database.chat_lines
        lines.update_many({}, {"$unset": {"customer": ""}, "$set": {"author.id": None}})
        lines.update_many({"author.kind": "customer"}, {"$set": {"author.id": odd.contact}})
        lines.update_one({"author.kind": "agent"}, {"$set": {"author.id": odd.user}})
    printed = run(environment(settings), "inspect", "--json").json["settings"]
    assert printed["SNAPSHOTS_MESSAGE_CONVERSATION_FIELD"] == "chatId"
    assert "SNAPSHOTS_MESSAGE_CONTACT_FIELD" not in printed
    assert run(environment(settings, **printed), "inspect").code == 0
    mapped = {**printed, "SNAPSHOTS_MESSAGE_CONTACT_FIELD": "author.id"}
    messages = next(
        each
        for each in run(environment(settings, **mapped), "inspect", "--json").json["collections"]
        if each["kind"] == "messages"
    )
    (contact,) = (each for each in messages["fields"] if each["field"] == "contactId")
    assert contact["level"] == "partly"
    assert (
        "67% refer to an existing contact; snapshots of a contact would not include the other messages"
        in contact["finding"]
    )


def test_collections_of_unknown_names_are_listed_with_the_setting_that_names_them(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        odd.database.customers.rename("parties")
        odd.database.parties.delete_many({})
        odd.database.parties.insert_one({"name": "something else"})  # to which nothing refers
    ended = run(environment(settings), "inspect")
    assert ended.code == 1
    assert "does not exist or has no documents; check SNAPSHOTS_CONTACTS_COLLECTION" in ended.stdout
    assert "Other collections of the database: parties\n" in ended.stdout


def test_collections_of_unknown_names_are_found_by_their_references(settings: Settings) -> None:
    names = {"customers": "huurders", "chats": "zaken", "chat_lines": "regels", "users": "medewerkers"}
    with service_on(settings) as service:
        odd = Odd(service)
        odd.database.chats.update_many({}, {"$set": {"state.closedBy": odd.user}})
        odd.database.tenants.insert_one({"_id": odd.organization, "owner": odd.user})
        for old, new in names.items():
            odd.database[old].rename(new)
    printed = run(environment(settings), "inspect", "--json").json["settings"]
    groups = {"CONTACTS": "huurders", "CONVERSATIONS": "zaken", "MESSAGES": "regels", "USERS": "medewerkers"}
    assert {name: printed.get(f"SNAPSHOTS_{name}_COLLECTION") for name in groups} == groups
    assert run(environment(settings, **printed), "inspect").code == 0


@pytest.mark.parametrize("filled", [True, False])
def test_default_names_fit_and_an_empty_database_does_not(settings: Settings, filled: bool) -> None:
    if filled:
        with service_on(settings) as service:
            contact_with(service.connections.database, 3)
    ended = run(environment(settings), "inspect", "--json")
    assert ended.code == (0 if filled else 1), ended.stdout
    faults = [
        one["kind"] for one in ended.json["collections"] for each in one["fields"] if each["level"] == "does not fit"
    ]
    assert faults == ([] if filled else ["contacts", "conversations", "messages"])


def test_messages_in_a_collection_named_like_conversations_with_ids_of_their_own(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        odd.close()
        database = odd.database
        database.chats.rename("threads")
        database.chat_lines.aggregate(
            [{"$set": {"_id": {"$concat": ["line ", {"$toString": "$_id"}]}}}, {"$out": "chats"}]
        )
        database.chat_lines.drop()
    printed = run(environment(settings), "inspect", "--json").json["settings"]
    assert printed["SNAPSHOTS_MESSAGES_COLLECTION"] == "chats"
    assert printed["SNAPSHOTS_CONVERSATIONS_COLLECTION"] == "threads"
    again = run(environment(settings, **printed), "inspect")
    assert again.code == 0, again.stdout
    assert "snapshots have them, but no request can select them" in again.stdout


def test_conversations_with_a_last_message_are_not_taken_for_messages(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        odd.database.chats.update_many({}, {"$set": {"lastMessage": {"text": "Hello"}}})
        odd.database.chat_lines.rename("utterances")
    printed = run(environment(settings), "inspect", "--json").json["settings"]
    assert printed["SNAPSHOTS_MESSAGES_COLLECTION"] == "utterances"
    assert printed["SNAPSHOTS_CONVERSATIONS_COLLECTION"] == "chats"


def test_settings_that_are_set_are_not_suggested_again(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        odd.close()
        odd.database.chat_lines.update_one({"author.kind": "bot"}, {"$set": {"author.kind": "customer_service"}})
        odd.database.chat_lines.insert_many(
            {**each, "_id": ObjectId()} for each in [*odd.database.chat_lines.find()] * 3
        )
    printed = run(environment(settings), "inspect", "--json").json["settings"]
    again = run(environment(settings, **printed), "inspect")
    assert again.code == 1
    assert "export" not in again.stdout
    assert "add customer_service=contact" in "".join(again.stdout.split("\n"))


def test_database_that_does_not_exist_is_named_next_to_those_that_do(settings: Settings) -> None:
    with service_on(settings) as service:
        contact_with(service.connections.database, 1)
    absent = settings.mongo_database + "_absent"
    ended = run(environment(settings, SNAPSHOTS_MONGO_DATABASE=absent), "inspect")
    assert ended.code == 1
    text = " ".join(ended.stdout.split())
    listed = text.partition(
        f"The database {absent} has none of the four collections. Other databases of this server: "
    )[2]
    assert settings.mongo_database in listed.partition(". Set ")[0].split(", ")


def test_setting_that_names_a_field_that_no_document_has_does_not_fit(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        odd.close()
    printed = run(environment(settings), "inspect", "--json").json["settings"]
    misspelt = {
        "SNAPSHOTS_MESSAGE_TIMESTAMP_FIELD": "sntAt",
        "SNAPSHOTS_MESSAGE_SENDER_TYPE_FIELD": "author.knid",
        "SNAPSHOTS_CONTACT_EMAIL_FIELD": "mial",
        "SNAPSHOTS_CONVERSATION_RESOLVED_VALUES": "sovled",
    }
    ended = run(environment(settings, **printed | misspelt), "inspect", "--json")
    assert ended.code == 1
    fields = {f"{one['kind']} {each['field']}": each for one in ended.json["collections"] for each in one["fields"]}
    assert {name for name, each in fields.items() if each["level"] == "does not fit"} == {
        "messages timestamp",
        "messages senderType",
        "contacts email",
    }
    assert "but SNAPSHOTS_MESSAGE_TIMESTAMP_FIELD names it" in fields["messages timestamp"]["finding"]
    assert fields["conversations isResolved"]["level"] == "partly"
    assert "not found: sovled" in fields["conversations isResolved"]["finding"]
    assert ended.json["settings"]["SNAPSHOTS_MESSAGE_TIMESTAMP_FIELD"] == "sentAt"


def test_fields_that_are_not_read_are_listed(settings: Settings) -> None:
    with service_on(settings) as service:
        odd = Odd(service)
        odd.database.chat_lines.update_many({}, {"$set": {"moodScore": 3}})
    ended = run(environment(settings), "inspect")
    assert "not read: " in ended.stdout
    assert "moodScore (number)" in ended.stdout
    assert "author.kind" not in ended.stdout.partition("not read: ")[2].partition("\n")[0]
