"""Inspects the platform's four collections: samples each, judges every field, and collects settings that map it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from bson import ObjectId

from worker.domain.source_fields import CONTACT, CONVERSATION, MESSAGE, USER, CollectionFields
from worker.inspection.authors import find_authors, untranslated_values
from worker.inspection.expected import COLLECTIONS, EXPECTED, ID, Expected, spelled
from worker.inspection.flags import judge_flags
from worker.inspection.matching import FieldFinding, Fit, best_path, judge, only_path, paths_of_ids, resolved_settings
from worker.inspection.profile import PathProfile, Profile
from worker.inspection.sampling import Sample, collection_names, database_names, is_empty, known, sample
from worker.settings.field_mapping import Group, read_pairs, variable
from worker.stores.connections import Connections

_SETTINGS: Mapping[Group, Mapping[str, str | None]] = {
    "message": MESSAGE,
    "conversation": CONVERSATION,
    "contact": CONTACT,
    "user": USER,
}
_ORDER: tuple[Group, ...] = ("contact", "conversation", "message", "user")
_SOURCES: tuple[Group, ...] = ("contact", "conversation", "message")
_AUTHORS = ("sender", "direction", "senderType")
_JUDGED_TOGETHER = ("organizationId", "contactId", "conversationId", *_AUTHORS)
_ONLY = {"content": ("string", 0.95), "timestamp": ("date", 0.95), "resolvedAt": ("date", 0.0)}
"""Fields that are also found if only one path has their type, and the least share of documents with a value there."""
_UNREAD = 12
"""Maximum number of fields to list that are not read."""
_JOINED = 0.5
"""The share of sampled references that must lead to existing documents."""
_OWNED = 0.95
"""The same for the contacts of messages. Snapshots of a contact lack messages that name somebody else, such as an
agent who wrote one."""
_CANDIDATES = 8
"""Maximum number of references to look up for each field."""


@dataclass
class Inspected:
    """A collection of the platform, and the finding about each field that is read."""

    group: Group
    sample: Sample
    findings: list[FieldFinding] = field(default_factory=list)
    unread: dict[str, PathProfile] = field(default_factory=dict)
    """The first fields of the documents that are not read, by path. Empty if everything fits."""


@dataclass
class Inspection:
    """The result of an inspection.

    `settings`: values that would map the fields that do not fit, by name without prefix.
    """

    database: str
    collections: list[Inspected]
    settings: dict[str, str]
    others: list[str]
    """Collections of the database that are neither inspected nor named by a setting."""
    other_databases: list[str] = field(default_factory=list)
    """If the database has none of the four collections: the other databases of the server."""

    @property
    def fits(self) -> bool:
        """Whether all required fields fit with the current settings."""
        faults = [each for one in self.collections for each in one.findings if each.level is Fit.FAULT]
        return not faults


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
        self._settings: dict[str, str] = {}

    def __call__(self, on_collection: Callable[[str], None] = lambda _: None) -> Inspection:
        """Sample and judge all four collections. Raises StoreUnavailable, StoreConflict."""
        existing = collection_names(self._connections)
        inspected: dict[Group, Inspected] = {}
        for group in _ORDER:
            name = self._collection(group, existing)
            on_collection(name)
            inspected[group] = Inspected(group, self._sample(name, existing))
        self._exchange_conversations_that_are_messages(inspected, existing)
        organization = self._organization(inspected)
        for one in inspected.values():
            if not one.sample.profile.sampled:
                one.findings = [self._empty(one)]
                continue
            one.findings = list(self._judge(one, inspected, organization))
            for finding in one.findings:
                self._settings |= {
                    name: value for name, value in finding.settings.items() if not self._has(name, value)
                }
            one.unread = self._unread(one)
        ordered = {name: self._settings[name] for name in type(self._names).model_fields if name in self._settings}
        chosen = {one.sample.collection for one in inspected.values()} | self._named()
        others = [name for name in existing if name not in chosen]
        is_other = not any(one.sample.profile.sampled for one in inspected.values())
        databases = database_names(self._connections) if is_other else []
        collections = [inspected[group] for group in _ORDER]
        return Inspection(self._names.mongo_database, collections, ordered, others, databases)

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
            setting = _SETTINGS[one.group].get(found.name)
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
        yield self._organizations(one, organization)
        yield from self._references(one, inspected, organization)
        for name, expected in EXPECTED[group].items():
            setting = _SETTINGS[group][name]
            if name == "isResolved":
                yield self._resolved(profile, expected)
            elif setting is not None and name not in _JUDGED_TOGETHER:
                yield self._plain(name, setting, self._fields[group][name], expected, profile)
        if group == "message":
            fields = self._connections.fields.message
            author = find_authors(profile, fields)
            yield author
            yield from (each for each in untranslated_values(profile, fields) if each.text != author.text)
            yield from judge_flags(profile, self._names)

    def _organizations(self, one: Inspected, organization: str) -> FieldFinding:
        name, group = "organizationId", one.group
        path = self._fields[group][name]
        expected, profile = EXPECTED[group][name], one.sample.profile
        found = judge(name, path, expected, profile)
        if group == "user":
            found = replace(found, level=_at_most_partly(found.level))
            if not profile.at(organization).accepted(expected.kinds):
                return found
        return replace(found, settings={} if organization == path else {"organization_field": organization})

    def _references(
        self, one: Inspected, inspected: Mapping[Group, Inspected], organization: str
    ) -> Iterator[FieldFinding]:
        """Judge the references to contacts and conversations. A message needs only one of the two."""
        targets: dict[str, Group] = {"contactId": "contact", "conversationId": "conversation"}
        names = [name for name in targets if name in EXPECTED[one.group]]
        found = [self._reference(name, one, inspected[targets[name]], organization) for name in names]
        leads = any(each.level in (Fit.FITS, Fit.PARTLY) for each in found)
        is_mappable = any(each.settings for each in found)
        for each in found:
            if one.group == "message" and (leads or (is_mappable and not each.settings)):
                yield replace(each, level=_at_most_partly(each.level))
            else:
                yield replace(each, level=each.level if leads else Fit.FAULT)

    def _plain(self, name: str, setting: str, path: str, expected: Expected, profile: Profile) -> FieldFinding:
        found = judge(name, path, expected, profile)
        if profile.at(path).accepted(expected.kinds):
            return found
        dated = replace(expected, kinds=("date",)) if "date" in expected.kinds else expected
        better = best_path(dated, profile) or best_path(expected, profile)
        if not better and name in _ONLY:
            better = only_path(*_ONLY[name], profile)
        level = Fit.FAULT if name == "content" else found.level
        if better and better != path:
            return replace(found, level=level, settings={setting: better})
        hint = "; without a date, closings cannot be detected" if name == "resolvedAt" else ""
        return replace(found, level=level, text=f"{found.text}{hint}")

    def _organization(self, inspected: Mapping[Group, Inspected]) -> str:
        """Return the path of the organization's id: the one in the settings or, if that does not fit, a better one."""
        path = self._fields["message"]["organizationId"]
        expected = EXPECTED["message"]["organizationId"]
        profiles = [inspected[group].sample.profile for group in _SOURCES if inspected[group].sample.profile.sampled]
        if not profiles or any(each.at(path).accepted(expected.kinds) for each in profiles):
            return path
        shared = [each for each in profiles[0].paths if all(one.at(each).accepted((ID,)) for one in profiles)]
        alike = Profile(profiles[0].sampled, paths={each: profiles[0].paths[each] for each in shared})
        only = shared[0] if len(shared) == 1 else path
        return best_path(expected, alike) or only

    def _reference(self, name: str, one: Inspected, target: Inspected, organization: str) -> FieldFinding:
        """Judge a reference by how many of its ids exist in the other collection."""
        expected, profile = EXPECTED[one.group][name], one.sample.profile
        path = self._fields[one.group][name]
        found = judge(name, path, expected, profile)
        is_owner = (one.group, name) == ("message", "contactId")
        least = _OWNED if is_owner else _JOINED
        if ids := profile.at(path).ids:
            share = self._share(target, ids)
            if share >= least or not target.sample.profile.sampled:
                return found
            left_out = "; snapshots of a contact would not include the other messages" if is_owner else ""
            text = f"{found.text}; {share:.0%} refer to an existing {target.group}{left_out}"
            found = replace(found, level=Fit.FAULT, text=text)
        candidates = [each for each in paths_of_ids(profile, expected.names) if each not in (path, organization)]
        shares = {each: self._share(target, profile.at(each).ids) for each in candidates[:_CANDIDATES]}
        better = next((each for each, share in shares.items() if share >= least), None)
        setting = _SETTINGS[one.group][name]
        return replace(found, settings={setting: better}) if better and setting else found

    def _share(self, target: Inspected, ids: Counter[ObjectId]) -> float:
        found = known(self._connections, target.sample.collection, ids)
        return sum(ids[each] for each in found) / ids.total() if ids else 0.0

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
        return replace(found, settings=resolved_settings(expected, profile, fields))


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


def _at_most_partly(level: Fit) -> Fit:
    return Fit.PARTLY if level is Fit.FAULT else level
