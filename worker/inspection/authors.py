"""Finds the field of sampled messages that says who wrote a message, and the translation of its values. Pure.

The words for each side are those that messaging platforms use. `user` is ambiguous: it means the customer if another
value means the platform's side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from worker.domain.source_fields import MessageFields
from worker.inspection.expected import spelled
from worker.inspection.profile import PathProfile, Profile
from worker.settings.field_mapping import DIRECTIONS, SENDER_TYPES, SENDERS

_CONTACT = frozenset(
    [
        *("contact", "customer", "client", "visitor", "guest", "lead", "enduser", "consumer", "buyer", "patient"),
        *("requester", "subscriber", "caller", "shopper", "member"),
    ]
)
_HUMAN = frozenset(
    [
        *("agent", "operator", "staff", "support", "rep", "representative", "advisor", "employee", "admin"),
        "teammate",
        "human",
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
_LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Authors:
    """Whether the current settings say who wrote a message, by which path, and otherwise settings that would."""

    fits: bool
    path: str
    finding: str
    settings: Mapping[str, str] = field(default_factory=dict)


def find_authors(profile: Profile, fields: MessageFields) -> Authors:
    """Judge the current settings and, if they do not say who wrote the messages, suggest others."""
    for name, allowed in (("sender", SENDERS), ("direction", DIRECTIONS), ("senderType", SENDER_TYPES)):
        here = profile.at(fields[name])
        if _fits(here, fields.values.get(name, {}), allowed, profile.sampled):
            return Authors(True, fields[name], _listed(here))
    likely = _LEAST_SHARE * profile.sampled
    candidates = sorted(
        (path for path, here in profile.paths.items() if here.values and here.present >= likely),
        key=lambda path: (-profile.at(path).present, path.count("."), path),
    )
    for suggest in (_by_side, _by_direction):
        for path in candidates:
            if settings := suggest(path, profile.at(path)):
                return Authors(False, fields["sender"], f"{path} {_listed(profile.at(path))}", settings)
    here = profile.at(fields["sender"])
    if here.present:
        return Authors(
            False,
            fields["sender"],
            f"{_listed(here)}; only contact and user are valid: set SNAPSHOTS_MESSAGE_SENDER_VALUES to translate"
            " the others",
        )
    return Authors(False, fields["sender"], "no field was recognized, so all messages seem to be the contact's")


def _fits(here: PathProfile, pairs: Mapping[str, str], allowed: Iterable[str], sampled: int) -> bool:
    if not here.values or here.present < _LEAST_SHARE * sampled:
        return False
    return all(pairs.get(value, value) in allowed for value in here.values)


def _by_side(path: str, here: PathProfile) -> dict[str, str]:
    values = list(here.values or ())
    words = {value: spelled(value) for value in values}
    others_name_platform = any(word in _HUMAN | _AI for word in words.values())
    sides: dict[str, tuple[str, str]] = {}
    for value, word in words.items():
        if word in _CONTACT or (word == "user" and others_name_platform):
            sides[value] = ("contact", "CONTACT")
        elif word in _HUMAN or word == "user":
            sides[value] = ("user", "HUMAN")
        elif word in _AI:
            sides[value] = ("user", "AI")
        elif word in _SYSTEM:
            sides[value] = ("user", "SYSTEM")
    told = sum(count for value, count in (here.values or {}).items() if value in sides)
    if told < 0.8 * here.present or not {"contact", "CONTACT"} & {side for pair in sides.values() for side in pair}:
        return {}
    settings = {"message_sender_field": path}
    if any(value != side for value, (side, _) in sides.items()):
        settings["message_sender_values"] = _pairs({value: side for value, (side, _) in sides.items()})
    settings["message_sender_type_field"] = path
    settings["message_sender_type_values"] = _pairs({value: kind for value, (_, kind) in sides.items()})
    return settings


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
        settings["message_direction_values"] = _pairs(pairs)
    return settings


def _pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{stored}={ours}" for stored, ours in sorted(values.items()))


def _listed(here: PathProfile) -> str:
    return f"has the values {', '.join(sorted(here.values))}" if here.values else "has many different values"
