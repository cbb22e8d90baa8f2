"""Inspects the platform's four collections: samples each, judges every field, and collects settings that map it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from worker.domain.source_fields import MESSAGE, CollectionFields
from worker.inspection.authors import find_authors, untranslated_values
from worker.inspection.candidates import names, states, times
from worker.inspection.discovery import discover
from worker.inspection.expected import COLLECTIONS, EXPECTED, Expected, spelled
from worker.inspection.flags import judge_flags
from worker.inspection.matching import (
    FieldFinding,
    Fit,
    best_path,
    judge,
    only_path,
    path_of_look,
    resolved_settings,
)
from worker.inspection.profile import PathProfile, Profile
from worker.inspection.references import SETTINGS, References
from worker.inspection.result import Inspected, Inspection
from worker.inspection.sampling import Sample, collection_names, database_names, is_empty, sample
from worker.settings.field_mapping import Group, read_pairs, variable
from worker.stores.connections import Connections

_ORDER: tuple[Group, ...] = ("contact", "conversation", "message", "user")
_AUTHORS = ("sender", "direction", "senderType")
_JUDGED_TOGETHER = ("organizationId", "contactId", "conversationId", *_AUTHORS)
_ONLY = {"content": ("string", 0.5), "timestamp": ("date", 0.95), "resolvedAt": ("date", 0.0)}
"""Fields that are also found if only one path has their type, and the least share of documents with a value there."""
_LOOKS = {"phoneNumber": "phone", "email": "email"}
"""Fields that are also found if the values of only one path look like them."""
_UNREAD = 12
"""Maximum number of fields to list that are not read."""


class Inspector:
    """Inspects one database. `size`: the documents in each sample. `seconds`: the time limit for each sample."""

    def __init__(self, connections: Connections, size: int, seconds: float) -> None:
        self._connections = connections
        self._names = connections.settings
        self._size, self._seconds = size, seconds
        fields = connections.fields
        self._fields: Mapping[Group, CollectionFields] = {
            "message": fields.message,
            "conversation": fields.conversation,
            "contact": fields.contact,
            "user": fields.user,
        }
        self._references = References(connections, self._fields)
        self._settings: dict[str, str] = {}
        self._incomplete: dict[str, str] = {}

    def __call__(self, on_collection: Callable[[str], None] = lambda _: None) -> Inspection:
        """Sample and judge all four collections. Raises StoreUnavailable, StoreConflict."""
        existing = collection_names(self._connections)
        inspected: dict[Group, Inspected] = {}
        for group in _ORDER:
            name = self._collection(group, existing)
            on_collection(name)
            inspected[group] = Inspected(group, self._sample(name, existing))
        self._exchange_conversations_that_are_messages(inspected, existing)
        self._discover(inspected, existing)
        organization = self._references.organization(inspected)
        for one in inspected.values():
            if not one.sample.profile.sampled:
                one.findings = [self._empty(one)]
                continue
            one.findings = list(self._judge(one, inspected, organization))
            for finding in one.findings:
                self._settings |= {
                    name: value for name, value in finding.settings.items() if not self._has(name, value)
                }
                self._incomplete |= finding.incomplete
            one.unread = self._unread(one)
        order = type(self._names).model_fields
        ordered = {name: self._settings[name] for name in order if name in self._settings}
        left = self._incomplete.keys() - self._settings.keys()
        incomplete = {name: self._incomplete[name] for name in order if name in left}
        chosen = {one.sample.collection for one in inspected.values()} | self._named()
        others = [name for name in existing if name not in chosen]
        is_other = not any(one.sample.profile.sampled for one in inspected.values())
        databases = database_names(self._connections) if is_other else []
        collections = [inspected[group] for group in _ORDER]
        return Inspection(self._names.mongo_database, collections, ordered, incomplete, others, databases)

    def _has(self, name: str, value: str) -> bool:
        """Return whether a setting has this value already."""
        current = getattr(self._names, name)
        if current and "=" in value:
            return read_pairs(current) == read_pairs(value)
        return bool(current == value)

    # --- collections --------------------------------------------------------------------------------------

    def _sample(self, name: str, existing: list[str]) -> Sample:
        return sample(self._connections, name, self._size, self._seconds) if name in existing else Sample(name)

    def _exchange_conversations_that_are_messages(self, inspected: dict[Group, Inspected], existing: list[str]) -> None:
        """If no collection is named like messages, take a supposed one of conversations for it that looks like them.

        A collection named `chats` holds conversations on some platforms, and messages on others.
        """
        own, supposed = inspected["message"].sample, inspected["conversation"].sample
        names = EXPECTED["message"]
        are_messages = all(best_path(names[each], supposed.profile) for each in ("content", "conversationId"))
        is_guess = "conversations_collection" in self._settings
        if own.profile.sampled or own.cut_short or not is_guess or not are_messages:
            return
        inspected["message"] = Inspected("message", supposed)
        del self._settings["conversations_collection"]
        self._settings["messages_collection"] = supposed.collection
        left = [name for name in existing if name != supposed.collection]
        name = self._collection("conversation", left)
        inspected["conversation"] = Inspected("conversation", self._sample(name, left))

    def _discover(self, inspected: dict[Group, Inspected], existing: list[str]) -> None:
        """Look for collections that have neither the configured name nor a usual one."""
        found: dict[Group, str] = {
            group: one.sample.collection for group, one in inspected.items() if one.sample.profile.sampled
        }
        if len(found) == len(inspected):
            return
        left = [name for name in existing if name not in self._named() | set(found.values())]
        for group, name in discover(self._connections, left, found).items():
            inspected[group] = Inspected(group, self._sample(name, existing))
            self._settings[f"{group}s_collection"] = name

    def _collection(self, group: Group, existing: list[str]) -> str:
        """Return the collection that the settings name or, if it is missing or empty, one with a similar name."""
        setting = f"{group}s_collection"
        configured: str = getattr(self._names, setting)
        if configured in existing and not is_empty(self._connections, configured):
            return configured
        alike = {spelled(name): name for name in existing if name not in self._named()}  # none of our own
        for name in COLLECTIONS[group]:
            if name in alike:
                self._settings[setting] = alike[name]
                return alike[name]
        return configured

    def _named(self) -> set[str]:
        return {getattr(self._names, name) for name in type(self._names).model_fields if name.endswith("_collection")}

    def _empty(self, one: Inspected) -> FieldFinding:
        level = Fit.OPTIONAL if one.group == "user" else Fit.FAULT
        what = (
            "has no documents"
            if one.sample.documents == 0 and not one.sample.cut_short
            else "could not be sampled in time"
        )
        return FieldFinding(
            "_id",
            "_id",
            level,
            f"the collection does not exist or {what}; check {variable(f'{one.group}s_collection')}",
        )

    # --- fields -------------------------------------------------------------------------------------------

    def _judge(self, one: Inspected, inspected: Mapping[Group, Inspected], organization: str) -> Iterator[FieldFinding]:
        """Judge all fields of a collection. One that a setting names, but that no document has, does not fit."""
        for found in self._judge_fields(one, inspected, organization):
            setting = SETTINGS[one.group].get(found.name)
            if found.name in (*_AUTHORS, "organizationId") or not self._is_absent(one, setting, found.path):
                yield found
            else:
                yield _absent(found.name, found.path, setting, found.settings)
        if one.group == "message":
            for name in _AUTHORS:
                setting, path = MESSAGE[name], self._fields["message"][name]
                if self._is_absent(one, setting, path):
                    yield _absent(name, path, setting, {})

    def _is_absent(self, one: Inspected, setting: str | None, path: str) -> bool:
        """Return whether a setting names a path other than the default, and no sampled document has a value there."""
        is_named = setting in self._names.model_fields_set and path != type(self._names).model_fields[setting].default
        return is_named and not one.sample.profile.at(path).present

    def _unread(self, one: Inspected) -> dict[str, PathProfile]:
        if all(each.level is Fit.FITS for each in one.findings):
            return {}
        read = {*self._fields[one.group].paths.values(), *self._settings.values(), "__v"}
        if one.group == "message":
            read |= {flag.path for flag in self._connections.fields.message.flags}
        paths = one.sample.profile.paths.items()
        left = {path: here for path, here in paths if path not in read and set(here.kinds) - {"object"}}
        return dict(islice(left.items(), _UNREAD))

    def _judge_fields(
        self, one: Inspected, inspected: Mapping[Group, Inspected], organization: str
    ) -> Iterator[FieldFinding]:
        group, profile = one.group, one.sample.profile
        yield _judge_ids(group, profile)
        yield self._references.judge_organizations(one, organization)
        yield from self._references.judge(one, inspected, organization)
        for name, expected in EXPECTED[group].items():
            setting = SETTINGS[group][name]
            if name == "isResolved":
                yield self._resolved(profile, expected)
            elif setting is not None and name not in _JUDGED_TOGETHER:
                found = self._plain(group, name, setting, profile)
                is_resolver = name == "resolvedBy" and not profile.at(found.path).present
                yield self._references.find_resolver(found, one, inspected["user"]) if is_resolver else found
        if group == "message":
            fields = self._connections.fields.message
            author = find_authors(profile, fields)
            yield author
            left = [each for each in untranslated_values(profile, fields) if each.text != author.text]
            yield from (each for each in left if not author.settings or each.name != author.name)
            used = {*fields.paths.values(), *author.settings.values(), *author.incomplete.values()}
            yield from judge_flags(profile, self._names, used)

    def _plain(self, group: Group, name: str, setting: str, profile: Profile) -> FieldFinding:
        path, expected = self._fields[group][name], EXPECTED[group][name]
        found = judge(name, path, expected, profile)
        if profile.at(path).accepted(expected.kinds):
            return found
        dated = replace(expected, kinds=("date",)) if "date" in expected.kinds else expected
        better = best_path(dated, profile) or best_path(expected, profile)
        if not better and name in _ONLY:
            better = only_path(*_ONLY[name], profile)
        if not better and name in _LOOKS:
            better = path_of_look(_LOOKS[name], profile)
        level = Fit.FAULT if name == "content" else found.level
        if not better and (possible := self._possible(group, name, profile)):
            undated = name == "timestamp" and not profile.at("createdAt").present
            return replace(found, level=Fit.FAULT if undated else level, incomplete={setting: possible})
        if better and better != path:
            return replace(found, level=level, settings={setting: better})
        hint = "; without a date, closings cannot be detected" if name == "resolvedAt" else ""
        return replace(found, level=level, text=f"{found.text}{hint}")

    def _possible(self, group: Group, name: str, profile: Profile) -> str:
        """Return the paths that may hold a field, of which the platform's team knows the right one."""
        if name == "timestamp":
            return times(profile)
        if name not in ("firstName", "lastName"):
            return ""
        used = {path for each in ("firstName", "lastName") if (path := best_path(EXPECTED[group][each], profile))}
        return names(profile, used | set(self._fields[group].paths.values()), last=name == "lastName")

    def _resolved(self, profile: Profile, expected: Expected) -> FieldFinding:
        fields = self._connections.fields.conversation
        path, values = fields["isResolved"], fields.resolved_values
        here = profile.at(path)
        if values and here.values:
            text = f"has the values {', '.join(sorted(here.values))}; resolved: {', '.join(values)}"
            if unknown := [value for value in values if value not in here.values]:
                return FieldFinding("isResolved", path, Fit.PARTLY, f"{text}; not found: {', '.join(unknown)}")
            return FieldFinding("isResolved", path, Fit.FITS, text)
        found = judge("isResolved", path, expected, profile)
        if here.accepted(expected.kinds):
            return found
        if settings := resolved_settings(expected, profile, fields):
            return replace(found, text=f"{found.text}{_states(settings, profile)}", settings=settings)
        return replace(found, incomplete=states(profile))


def _states(settings: Mapping[str, str], profile: Profile) -> str:
    """Name all states, because closed ones may be missing in the settings."""
    path, values = settings["conversation_resolved_field"], settings.get("conversation_resolved_values")
    listed = ", ".join(sorted(profile.at(path).values or ()))
    return f"; {path} has the values {listed}; resolved: {values}" if values else ""


def _judge_ids(group: Group, profile: Profile) -> FieldFinding:
    if profile.ids == profile.sampled:
        return FieldFinding("_id", "_id", Fit.FITS, "id, in 100 %")
    share = f"{profile.sampled - profile.ids} of {profile.sampled} are neither ObjectIds nor text of 24 hex digits"
    if group == "message":  # stored as text
        return FieldFinding("_id", "_id", Fit.OPTIONAL, f"{share}: snapshots have them, but no request can select them")
    level = Fit.PARTLY if profile.ids or group == "user" else Fit.FAULT
    return FieldFinding("_id", "_id", level, f"{share}, so no request can name them; no setting translates ids")


def _absent(name: str, path: str, setting: str | None, settings: Mapping[str, str]) -> FieldFinding:
    text = f"missing from all sampled documents, but {variable(str(setting))} names it"
    return FieldFinding(name, path, Fit.FAULT, text, settings)
