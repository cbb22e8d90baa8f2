"""Finds the field of sampled messages that says who wrote a message, and the translation of its values. Pure.

The words for each side are those that messaging platforms use. `user` is ambiguous: it means the customer if another
value means the platform's side.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from worker.domain.source_fields import MessageFields
from worker.inspection.candidates import kinds
from worker.inspection.expected import spelled
from worker.inspection.matching import FieldFinding, Fit, percent
from worker.inspection.profile import PathProfile, Profile
from worker.settings.field_mapping import DIRECTIONS, SENDER_TYPES, SENDERS, variable

_CONTACT = frozenset(
    [
        *("contact", "customer", "client", "visitor", "guest", "lead", "enduser", "consumer", "buyer", "patient"),
        *("requester", "subscriber", "caller", "shopper", "member", "renter", "tenant", "resident", "passenger"),
        *("traveller", "traveler", "student", "pupil", "citizen", "applicant", "claimant", "donor", "rider"),
    ]
)
_HUMAN = frozenset(
    [
        *("agent", "operator", "staff", "support", "rep", "representative", "advisor", "employee", "admin"),
        *("teammate", "human", "desk", "caretaker", "clerk", "technician", "nurse", "doctor", "receptionist", "coach"),
        *("dispatcher", "consultant", "manager", "colleague", "office", "helpdesk", "crew"),
    ]
)
_AI = frozenset({"ai", "bot", "chatbot", "assistant", "aiagent", "virtualagent", "robot", "llm"})
_SYSTEM = frozenset({"system", "automation", "workflow", "notification"})
_INBOUND = frozenset({"in", "inbound", "incoming", "received", "receive", "rx", "mo"})
_OUTBOUND = frozenset({"out", "outbound", "outgoing", "sent", "send", "tx", "mt"})
_FLAGS = {
    **dict.fromkeys(("fromme", "isoutbound", "outbound", "isoutgoing", "outgoing", "fromagent", "isfromagent"), "true"),
    **dict.fromkeys(("isinbound", "inbound", "isincoming", "incoming", "fromcustomer", "isfromcustomer"), "false"),
    **dict.fromkeys(("fromcontact", "isfromcontact", "fromuser", "isfromuser", "fromclient", "isfromclient"), "false"),
}
"""Names of flags, each with the value that means outbound."""
_NAMES = frozenset(
    [
        *("from", "sender", "author", "role", "by", "who", "part", "party", "side", "speaker", "origin", "source"),
        *("actor", "writer", "user", "creator", "sentby", "senderrole", "authortype", "participant"),
    ]
)
"""Names of fields, or of the level above, that may say who wrote a message."""
_LEAST_SHARE = 0.5
_TOLD_SHARE = 0.8
"""The share of messages whose author a suggestion must tell."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_RELATIONS = frozenset({"to", "from", "for", "by", "of", "with", "not", "non"})
_SENDER_VALUES = variable("message_sender_values")
_FIELDS = {
    "sender": (SENDERS, _SENDER_VALUES),
    "direction": (DIRECTIONS, variable("message_direction_values")),
    "senderType": (SENDER_TYPES, variable("message_sender_type_values")),
}
"""The fields that say who wrote a message, in the order in which they are used: their values, and the setting that
translates them."""


def find_authors(profile: Profile, fields: MessageFields) -> FieldFinding:
    """Judge whether the current settings say who wrote the messages and, if not, suggest others."""
    for name in _FIELDS:
        here = profile.at(fields[name])
        if _is_frequent(here, profile) and not _untranslated(name, here, fields):
            return FieldFinding("sender", fields[name], Fit.FITS, _with_meaning(here, fields.values.get(name, {})))
    return _suggestion(profile, fields) or _present(profile, fields)


def untranslated_values(profile: Profile, fields: MessageFields) -> Iterator[FieldFinding]:
    """Yield a finding for each field whose translations lack some of its values."""
    for name in fields.values:
        here = profile.at(fields[name])
        if left := _untranslated(name, here, fields):
            yield FieldFinding(name, fields[name], Fit.PARTLY, _without_translation(name, here, left))


def _suggestion(profile: Profile, fields: MessageFields) -> FieldFinding | None:
    likely = _LEAST_SHARE * profile.sampled
    candidates = sorted(
        (path for path, here in profile.paths.items() if here.values and here.present >= likely),
        key=lambda path: (-profile.at(path).present, path.count("."), path),
    )
    for suggest in (partial(_by_side, fields=fields), _by_direction):
        for path in candidates:
            if settings := suggest(path, profile.at(path)):
                here = profile.at(path)
                named = "" if path == fields["sender"] else f"{path} "
                text = f"{named}{_listed(here)}{_to_add(here, settings)}"
                return FieldFinding("sender", fields["sender"], Fit.FAULT, text, settings)
    return None


def _present(profile: Profile, fields: MessageFields) -> FieldFinding:
    """Judge fields whose values are unknown, or that few messages have."""
    found = [(name, here) for name in _FIELDS if (here := profile.at(fields[name])).present]
    partly = [(name, here) for name, here in found if _has_known(name, here, fields)]
    for name, here in (*partly, *found):
        level = Fit.PARTLY if (name, here) in partly else Fit.FAULT
        left = _untranslated(name, here, fields)
        if left or not here.values:
            text = _without_translation(name, here, left)
        else:
            text = f"{_listed(here)}, in {percent(here.present, profile.sampled)} of the messages"
        return FieldFinding("sender", fields[name], level, text)
    paths = ", ".join(dict.fromkeys(fields[name] for name in _FIELDS))
    text = (
        f"no message has one of the fields {paths}, so all messages would be the contact's: name one with "
        f"{variable('message_direction_field')} or {variable('message_sender_field')}, and translate its values"
    )
    return FieldFinding("sender", fields["sender"], Fit.FAULT, text, incomplete=_to_complete(profile))


def _to_complete(profile: Profile) -> dict[str, str]:
    """Return settings for the field that may say who wrote a message, with `?` for what an unknown value means."""
    found = kinds(profile, _TOLD_SHARE)
    named = [path for path in found if not _NAMES.isdisjoint(map(spelled, path.split(".")))]
    if not found:
        return {}
    path = max(named or found, key=lambda each: len(found[each]))
    types = {value: _sender_type(value) or "?" for value in found[path] if _is_translatable(value)}
    sides = {value: {"?": "?", "CONTACT": "contact"}.get(kind, "user") for value, kind in types.items()}
    return {
        "message_sender_field": path,
        "message_sender_values": translations(sides),
        "message_sender_type_field": path,
        "message_sender_type_values": translations(types),
    }


def _is_frequent(here: PathProfile, profile: Profile) -> bool:
    return bool(here.values) and here.present >= _LEAST_SHARE * profile.sampled


def _has_known(name: str, here: PathProfile, fields: MessageFields) -> bool:
    pairs = fields.values.get(name, {})
    return any(pairs.get(value, value) in _FIELDS[name][0] for value in here.values or ())


def _untranslated(name: str, here: PathProfile, fields: MessageFields) -> list[str]:
    """Return the values that are neither ours, nor translated, nor those of messages that are omitted."""
    pairs = fields.values.get(name, {})
    omitted = {value for flag in fields.flags if flag.path == fields[name] for value in flag.values}
    return sorted(
        value for value in here.values or () if value not in omitted and pairs.get(value, value) not in _FIELDS[name][0]
    )


def _without_translation(name: str, here: PathProfile, left: list[str]) -> str:
    allowed, setting = _FIELDS[name]
    if not here.values:
        return f"{_listed(here)}; only {', '.join(allowed)} are valid"
    share = percent(sum(here.values[each] for each in left), here.present)
    add = "add it" if len(left) == 1 else "add them"
    return f"{_listed(here)}; {', '.join(left)} ({share}) must become {' or '.join(allowed)}: {add} to {setting}"


def _by_side(path: str, here: PathProfile, fields: MessageFields) -> dict[str, str]:
    kinds = {value: _sender_type(value) for value in here.values or () if _is_translatable(value)}
    others_name_platform = not {"HUMAN", "AI"}.isdisjoint(kinds.values())
    ambiguous = "CONTACT" if others_name_platform else "HUMAN"
    types = {value: kind or ambiguous for value, kind in kinds.items() if kind or spelled(value) == "user"}
    senders = {value: "contact" if kind == "CONTACT" else "user" for value, kind in types.items()}
    senders |= _translated("sender", path, fields)
    types |= _translated("senderType", path, fields)
    told = sum(count for value, count in (here.values or {}).items() if value in senders)
    if told < _TOLD_SHARE * here.present or "contact" not in senders.values():
        return {}
    settings = {"message_sender_field": path}
    if any(value != side for value, side in senders.items()):
        settings["message_sender_values"] = translations(senders)
    settings["message_sender_type_field"] = path
    settings["message_sender_type_values"] = translations(types)
    return settings


def _translated(name: str, path: str, fields: MessageFields) -> Mapping[str, str]:
    """Return the translations that are set for a field, if it is stored at this path."""
    return fields.values.get(name, {}) if path == fields[name] else {}


def _is_translatable(value: str) -> bool:
    """Return whether a setting can name the value: a comma separates values, and spaces around them are removed."""
    return "," not in value and value == value.strip()


def _sender_type(value: str) -> str | None:
    """Return the type of sender that a value means, if its words say so: `assistant_bot` and `AIAgent` are AIs.

    Several words never mean the contact: `team_member` and `agent_to_customer` are the platform's side.
    """
    if kind := _type_of_word(spelled(value)):
        return kind
    words = [word.lower() for word in _WORD.findall(value)]
    kinds = [_type_of_word(word) for word in words]
    if not kinds or kinds[-1] not in {"HUMAN", "AI"} or not _RELATIONS.isdisjoint(words):
        return None
    return "AI" if "AI" in kinds else "HUMAN"


def _type_of_word(word: str) -> str | None:
    kinds = {"CONTACT": _CONTACT, "HUMAN": _HUMAN, "AI": _AI, "SYSTEM": _SYSTEM}
    return next((kind for kind, words in kinds.items() if word in words), None)


def _to_add(here: PathProfile, settings: Mapping[str, str]) -> str:
    """Return a warning if the suggested translations lack values: only the platform's team knows what they mean."""
    if "message_sender_field" not in settings:
        return ""
    known = {pair.rpartition("=")[0] for pair in settings.get("message_sender_values", "").split(",")}
    left = sorted(filter(_is_translatable, set(here.values or ()) - known - set(SENDERS)))
    return f"; add {', '.join(f'{value}=contact' for value in left)} (or =user) to {_SENDER_VALUES}" if left else ""


def _by_direction(path: str, here: PathProfile) -> dict[str, str]:
    values = set(here.values or ())
    name = spelled(path.rpartition(".")[2])
    if values <= {"true", "false"} and set(here.kinds) == {"bool"}:
        if not (outbound := _FLAGS.get(name)):
            return {}
        pairs = {each: "outbound" if each == outbound else "inbound" for each in ("true", "false")}
    else:
        pairs = {value: "inbound" for value in values if spelled(value) in _INBOUND}
        pairs |= {value: "outbound" for value in values if spelled(value) in _OUTBOUND}
        if values - pairs.keys():
            return {}
    settings = {"message_direction_field": path}
    if any(stored != ours for stored, ours in pairs.items()):
        settings["message_direction_values"] = translations(pairs)
    return settings


def translations(values: Mapping[str, str]) -> str:
    """Return translations as a setting states them: `agent=user,customer=contact`."""
    return ",".join(f"{stored}={ours}" for stored, ours in sorted(values.items()))


def _with_meaning(here: PathProfile, pairs: Mapping[str, str]) -> str:
    """List the values, and what they are translated to, so that a wrong side is seen."""
    meanings = ", ".join(f"{value} = {pairs[value]}" for value in sorted(here.values or ()) if value in pairs)
    return f"{_listed(here)}; {meanings}" if meanings else _listed(here)


def _listed(here: PathProfile) -> str:
    return f"has the values {', '.join(sorted(here.values))}" if here.values else "has many different values"
