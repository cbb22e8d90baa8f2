"""What samples of other platforms' documents suggest."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from support.profiles import profile
from worker.domain.source_fields import SourceFields
from worker.inspection.authors import find_authors, untranslated_values
from worker.inspection.expected import EXPECTED, FLAGS
from worker.inspection.flags import judge_flags
from worker.inspection.matching import Fit, best_flag, best_path, judge, only_path, resolved_settings
from worker.settings import load

NOW = datetime(2026, 5, 18, tzinfo=UTC)


BY_AUTHOR = {"message_sender_field": "by", "message_sender_type_field": "by"}


@pytest.mark.parametrize(
    ("values", "senders", "types"),
    [
        (["customer", "agent"], "agent=user,customer=contact", "agent=HUMAN,customer=CONTACT"),
        (["user", "assistant"], "assistant=user,user=contact", "assistant=AI,user=CONTACT"),
        (
            ["client", "support_agent", "assistantBot", "AIAgent"],
            "AIAgent=user,assistantBot=user,client=contact,support_agent=user",
            "AIAgent=AI,assistantBot=AI,client=CONTACT,support_agent=HUMAN",
        ),
        (["Visitor", "BOT", "system"], "BOT=user,Visitor=contact,system=user", "BOT=AI,Visitor=CONTACT,system=SYSTEM"),
    ],
)
def test_words_for_the_sides_are_translated(values: list[str], senders: str, types: str) -> None:
    found = find_authors(profile(*({"by": value} for value in values)), SourceFields(load()).message)
    assert found.settings == BY_AUTHOR | {"message_sender_values": senders, "message_sender_type_values": types}


@pytest.mark.parametrize(
    ("documents", "settings"),
    [
        (
            [{"kind": "in"}, {"kind": "out"}],
            {"message_direction_field": "kind", "message_direction_values": "in=inbound,out=outbound"},
        ),
        (
            [{"fromMe": True}, {"fromMe": False}],
            {"message_direction_field": "fromMe", "message_direction_values": "false=inbound,true=outbound"},
        ),
        ([{"way": "inbound"}, {"way": "outbound"}], {"message_direction_field": "way"}),
        ([{"sender": "Alice"}, {"sender": "Bob"}], {}),
        ([{"read": True}, {"read": False}], {}),
    ],
)
def test_directions_and_flags_are_translated(documents: list[dict[str, Any]], settings: dict[str, str]) -> None:
    found = find_authors(profile(*documents), SourceFields(load()).message)
    assert found.level is not Fit.FITS
    assert found.settings == settings


@pytest.mark.parametrize(
    "value",
    ["agent_to_customer", "customer_to_agent", "team_member", "web_client", "customer_service", "not_agent", "IVR"],
)
def test_words_that_may_mean_either_side_are_not_translated(value: str) -> None:
    values = ["customer", "agent"] * 10 + [value]
    found = find_authors(profile(*({"by": each} for each in values)), SourceFields(load()).message)
    assert found.settings["message_sender_values"] == "agent=user,customer=contact"
    assert f"{value}=contact" in found.text


def test_translations_that_are_set_are_kept_and_a_value_with_a_comma_is_left_out() -> None:
    own = {
        "message_sender_field": "by",
        "message_sender_values": "customer=contact, agent=user,customer_service=contact",
    }
    values = ["customer", "agent", "customer_service"] * 5 + ["weird", "Agent, Support"]
    found = find_authors(profile(*({"by": each} for each in values)), SourceFields(load(**own)).message)
    assert found.settings["message_sender_values"] == "agent=user,customer=contact,customer_service=contact"
    assert "add weird=contact (or =user) to" in found.text


def test_unknown_value_among_ours_is_named() -> None:
    values = ["contact", "user"] * 5 + ["weird"]
    found = find_authors(profile(*({"sender": each} for each in values)), SourceFields(load()).message)
    assert "weird" in found.text


def test_values_without_a_translation_are_named() -> None:
    values = ["customer", "agent"] * 10 + ["customer_service"]
    found = find_authors(profile(*({"by": value} for value in values)), SourceFields(load()).message)
    assert found.settings["message_sender_values"] == "agent=user,customer=contact"
    assert "add customer_service=contact (or =user) to SNAPSHOTS_MESSAGE_SENDER_VALUES" in found.text


ASIDE = {"message_internal_field": "flow", "message_internal_values": "aside"}
TRANSLATED = {
    "message_direction_field": "flow",
    "message_direction_values": "from=inbound,to=outbound",
    **ASIDE,
    "message_sender_type_field": "by",
    "message_sender_type_values": "client=CONTACT,desk=HUMAN",
}


@pytest.mark.parametrize(
    ("left_out", "level", "text"),
    [
        ((), Fit.FITS, "has the values aside, from, to"),
        (("message_internal_field", "message_internal_values"), Fit.PARTLY, "aside (20 %) must become inbound or"),
        (
            ("message_direction_values", "message_sender_type_field", "message_sender_type_values"),
            Fit.FAULT,
            "from, to (80 %) must become inbound or outbound",
        ),
        (("message_direction_field", "message_direction_values"), Fit.PARTLY, "copilot (40 %) must become CONTACT or"),
        (tuple(TRANSLATED), Fit.FAULT, "sender, direction, senderType, so all messages would be the contact's"),
    ],
)
def test_values_without_a_translation_do_not_hide_what_is_known(
    left_out: tuple[str, ...], level: Fit, text: str
) -> None:
    own: Any = {name: value for name, value in TRANSLATED.items() if name not in left_out}
    flows, authors = ("from", "to", "to", "aside", "from"), ("client", "desk", "copilot", "desk", "copilot")
    made = profile(*({"flow": flow, "by": by} for flow, by in zip(flows, authors, strict=True)))
    found = find_authors(made, SourceFields(load(**own)).message)
    assert (found.level, found.settings) == (level, {})
    assert text in found.text


def test_types_of_senders_without_a_translation_are_named_beside_a_direction_that_fits() -> None:
    made = profile({"flow": "from", "by": "client"}, {"flow": "to", "by": "copilot"})
    fields = SourceFields(load(**TRANSLATED)).message
    (found,) = untranslated_values(made, fields)
    assert (found.name, found.path, found.level) == ("senderType", "by", Fit.PARTLY)
    assert "copilot (50 %) must become CONTACT or HUMAN or AI or SYSTEM" in found.text


@pytest.mark.parametrize(
    ("own", "level", "text", "suggested"),
    [
        ({}, Fit.OPTIONAL, "aside may mark internal", ASIDE),
        ({"message_internal_field": "flow"}, Fit.FAULT, "every message would be omitted", {}),
        (ASIDE, Fit.FITS, "omits 50 %", {}),
        ({"message_internal_field": "flow", "message_internal_values": "asde"}, Fit.PARTLY, "not found: asde", {}),
        ({"message_internal_field": "public", "message_internal_values": "false"}, Fit.FITS, "omits 50 %", {}),
        ({"message_internal_field": "flw"}, Fit.PARTLY, "no message is omitted", {}),
    ],
)
def test_values_that_mark_internal_messages_are_judged_and_found(
    own: dict[str, Any], level: Fit, text: str, suggested: dict[str, str]
) -> None:
    made = profile({"flow": "to", "public": True}, {"flow": "aside", "public": False})
    (found,) = judge_flags(made, load(**own))
    assert (found.level, found.settings) == (level, suggested)
    assert text in found.text


@pytest.mark.parametrize(
    ("documents", "path"),
    [
        ([{"happenedOn": NOW, "updatedAt": NOW}, {"happenedOn": NOW}], "happenedOn"),
        ([{"happenedOn": NOW, "readOn": NOW}], None),
        ([{"happenedOn": NOW}, {}], None),
    ],
)
def test_the_only_field_of_a_type_is_found(documents: list[dict[str, Any]], path: str | None) -> None:
    assert only_path("date", 0.95, profile(*documents)) == path


@pytest.mark.parametrize("document", [{"sender": "user"}, {"direction": "inbound"}, {"senderType": "AI"}])
def test_default_values_fit(document: dict[str, Any]) -> None:
    assert find_authors(profile(document), SourceFields(load()).message).level is Fit.FITS


@pytest.mark.parametrize(
    ("field", "document", "path"),
    [
        ("content", {"content": {"body": "Hi", "lang": "en"}}, "content.body"),
        ("content", {"text": {"raw": 1}, "msg": "Hi"}, "msg"),
        ("timestamp", {"createdOn": NOW, "sentAt": NOW}, "sentAt"),
        ("organizationId", {"tenant": {"id": ObjectId()}, "workspace_id": 7}, "tenant.id"),
        ("conversationId", {"thread": str(ObjectId()), "kind": "x"}, "thread"),
        ("conversationId", {"thread": "not an id"}, None),
    ],
)
def test_fields_are_found_by_name_and_type(field: str, document: dict[str, Any], path: str | None) -> None:
    assert best_path(EXPECTED["message"][field], profile(document)) == path


@pytest.mark.parametrize(
    ("flag", "document", "path"),
    [
        ("message_internal_field", {"note": True}, "note"),
        ("message_internal_field", {"note": "call back"}, None),
        ("message_deleted_field", {"deletedAt": NOW}, "deletedAt"),
    ],
)
def test_flags_of_messages_are_found(flag: str, document: dict[str, Any], path: str | None) -> None:
    assert best_flag(FLAGS[flag], profile(document), dates=flag == "message_deleted_field") == path


@pytest.mark.parametrize(
    ("document", "field", "values"),
    [
        ({"isClosed": True}, "isClosed", None),
        ({"status": "solved"}, "status", "solved"),
        ({"open": False}, "open", "false"),
        ({"status": "new"}, None, None),
    ],
)
def test_flags_states_and_inverted_flags_tell_what_is_resolved(
    document: dict[str, Any], field: str | None, values: str | None
) -> None:
    expected = {"conversation_resolved_field": field, "conversation_resolved_values": values}
    found = resolved_settings(
        EXPECTED["conversation"]["isResolved"], profile(document), SourceFields(load()).conversation
    )
    assert found == {name: value for name, value in expected.items() if value}


@pytest.mark.parametrize(
    ("documents", "level", "text"),
    [
        (
            [{"organizationId": ObjectId()}, {"organizationId": str(ObjectId())}],
            Fit.FITS,
            "objectId, string, in 100 %",
        ),
        ([{"organizationId": ObjectId()}, {}], Fit.PARTLY, "objectId, in 50 %"),
        ([{"organizationId": ObjectId()}, {"organizationId": 7}], Fit.PARTLY, "50 % are not id"),
        ([{"organizationId": "acme"}], Fit.FAULT, "string, in 100 %; accepted: id"),
        ([{"organizationId": None}], Fit.FAULT, "missing from all sampled documents"),
    ],
)
def test_a_required_field_is_judged(documents: list[dict[str, Any]], level: Fit, text: str) -> None:
    found = judge("organizationId", "organizationId", EXPECTED["message"]["organizationId"], profile(*documents))
    assert found.level is level
    assert text in found.text


def test_profile_is_bounded_and_keeps_no_long_values() -> None:
    made = profile(*({f"key{number}": "x" * 50, "name": f"Person {number}"} for number in range(1200)))
    assert len(made.paths) == 1000
    assert made.at("key1").values is None
    assert made.at("name").values is None
