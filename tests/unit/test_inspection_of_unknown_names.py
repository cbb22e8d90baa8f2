"""What samples suggest whose fields and values have names that no list contains."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from support.profiles import profile
from worker.domain.source_fields import SourceFields
from worker.inspection import candidates
from worker.inspection.authors import find_authors
from worker.inspection.expected import EXPECTED
from worker.inspection.flags import judge_flags
from worker.inspection.matching import Fit, judge, only_path, path_of_look
from worker.settings import load

NOW = datetime(2026, 5, 18, tzinfo=UTC)


TEXT = [
    ({"body": {"plain": "I have no heating, #.", "html": "<p>I have no heating, #.</p>"}, "ref": "A-#"}, "body.plain"),
    ({"words": "Good day, #", "layout": "<p>Good day, #</p>"}, "words"),
    ({"words": "Good day, #", "more": "And good night, #"}, None),
    ({"code": "A#"}, None),
]


@pytest.mark.parametrize(("document", "path"), TEXT, ids=["one", "mark-up", "two", "no sentence"])
def test_the_only_text_is_found(document: dict[str, Any], path: str | None) -> None:
    many = [json.loads(json.dumps(document).replace("#", str(number))) for number in range(30)]
    assert only_path("string", 0.5, profile(*many, *[{"files": []}] * 10)) == path


def test_the_time_of_closing_is_one_that_open_conversations_lack() -> None:
    made = profile({"begunOn": NOW, "openedOn": NOW, "end": {"on": NOW}}, {"begunOn": NOW, "openedOn": NOW})
    assert only_path("date", 0.0, made) == "end.on"


@pytest.mark.parametrize(("look", "path"), [("email", "reach.post"), ("phone", "reach.handy"), ("sentence", None)])
def test_the_only_values_of_a_look_are_found(look: str, path: str | None) -> None:
    made = profile({"reach": {"post": "a@example.com", "handy": "+49 170 123456"}, "name": "Ada"})
    assert path_of_look(look, made) == path


def test_text_that_is_not_read_as_a_time_does_not_fit() -> None:
    made = profile({"at": NOW}, {"at": "2026-05-18T10:00:00Z"}, {"at": "18-05-2026 10:00"}, {"at": 1_779_000_000})
    found = judge("timestamp", "at", EXPECTED["message"]["timestamp"], made)
    assert (found.level, "25 % are not date or text in ISO 8601" in found.text) == (Fit.PARTLY, True)


def test_unknown_values_are_left_to_complete() -> None:
    made = profile(*({"wie": {"soort": value}, "art": "x"} for value in ("huurder", "balie", "chatbot")))
    found = find_authors(made, SourceFields(load()).message)
    assert found.settings == {}
    assert found.incomplete == {
        "message_sender_field": "wie.soort",
        "message_sender_values": "balie=?,chatbot=user,huurder=?",
        "message_sender_type_field": "wie.soort",
        "message_sender_type_values": "balie=?,chatbot=AI,huurder=?",
    }


def test_unknown_states_are_left_to_complete() -> None:
    made = profile(*({"voortgang": each, "onderwerp": f"{each} en zo"} for each in ("nieuw", "bezig", "afgerond")))
    values = "afgerond,bezig,nieuw"
    assert candidates.states(made) == {
        "conversation_resolved_field": "voortgang",
        "conversation_resolved_values": values,
    }


def test_flag_of_another_type_omits_messages_that_have_it() -> None:
    made = profile({"withdrawn": {"by": "x"}}, {"withdrawn": None}, {"withdrawn": None}, {})
    (found,) = judge_flags(made, load(message_deleted_field="withdrawn"))
    assert (found.level, "omits 25 % of the messages" in found.text) == (Fit.FITS, True)


def test_fields_that_may_be_meant_are_listed_to_choose_from() -> None:
    documents = [
        {"fechas": {"envio": NOW, "recepcion": NOW}, "visibilidad": each, "baja": {"el": NOW} if number == 0 else None}
        for number, each in enumerate(["publica", "interna", "publica", "publica"])
    ]
    made = profile(*documents)
    assert candidates.times(made) == "fechas.envio|fechas.recepcion"
    found = {one.name: one.incomplete for one in judge_flags(made, load(), {"fechas.envio"})}
    assert found == {
        "deleted": {"message_deleted_field": "baja.el"},
        "internal": {"message_internal_field": "visibilidad", "message_internal_values": "interna,publica"},
    }


def test_texts_that_look_like_names_are_listed_to_choose_from() -> None:
    people = [("Inés", "Ruiz Calvo"), ("Íñigo", "García"), ("Sam", "O'Neill-Smith")]
    made = profile(*({"yo": {"nombre": first, "apellidos": last}, "calle": "Mayor 3"} for first, last in people))
    assert candidates.names(made, set(), last=False) == "yo.nombre|yo.apellidos"
    assert candidates.names(made, set(), last=True) == "yo.apellidos|yo.nombre"
    assert candidates.names(made, {"yo.nombre"}, last=True) == "yo.apellidos"


def test_values_that_would_omit_every_message_do_not_fit() -> None:
    made = profile({"visibilidad": "publica"}, {"visibilidad": "interna"})
    own = load(message_internal_field="visibilidad", message_internal_values="interna,publica")
    (found,) = judge_flags(made, own)
    assert (found.level, "omits 100 % of the messages: keep only the values" in found.text) == (Fit.FAULT, True)


def test_meaning_of_each_value_is_shown() -> None:
    fields = SourceFields(load(message_sender_field="wie", message_sender_values="huurder=user,balie=contact")).message
    found = find_authors(profile({"wie": "huurder"}, {"wie": "balie"}), fields)
    assert (found.level, found.text) == (
        Fit.FITS,
        "has the values balie, huurder; balie = contact, huurder = user",
    )


def test_values_that_may_be_personal_are_not_listed() -> None:
    people = [("Priya Holloway", "priya@example.com", "+44 20 7946 0001"), ("Sam Bos", "sam@example.com", "+31 6 1234")]
    made = profile(*({"by": {"name": name, "mail": mail, "tel": tel}} for name, mail, tel in people))
    assert candidates.kinds(made) == {}
