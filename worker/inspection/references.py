"""Judges references between the platform's collections: to organizations, contacts, conversations and users.

A reference is judged by how many of its ids exist in the other collection, and suggested if they do.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from bson import ObjectId

from worker.domain.source_fields import CONTACT, CONVERSATION, MESSAGE, USER, CollectionFields
from worker.inspection.expected import EXPECTED, ID
from worker.inspection.matching import FieldFinding, Fit, best_path, judge, paths_of_ids
from worker.inspection.profile import Profile
from worker.inspection.result import Inspected
from worker.inspection.sampling import known
from worker.settings.field_mapping import Group
from worker.stores.connections import Connections

SETTINGS: Mapping[Group, Mapping[str, str | None]] = {
    "message": MESSAGE,
    "conversation": CONVERSATION,
    "contact": CONTACT,
    "user": USER,
}
"""The setting that maps each field, by collection."""
_SOURCES: tuple[Group, ...] = ("contact", "conversation", "message")
_JOINED = 0.5
"""The share of sampled references that must lead to existing documents."""
_OWNED = 0.95
"""The same for the contacts of messages. Snapshots of a contact lack messages that name somebody else, such as an
agent who wrote one."""
_CANDIDATES = 8
"""Maximum number of references to look up for each field."""


class References:
    """Judges the references of one inspection."""

    def __init__(self, connections: Connections, fields: Mapping[Group, CollectionFields]) -> None:
        self._connections = connections
        self._fields = fields

    def judge_organizations(self, one: Inspected, organization: str) -> FieldFinding:
        """Judge the reference to the organization. `organization`: the path that the other collections have."""
        name, group = "organizationId", one.group
        path = self._fields[group][name]
        expected, profile = EXPECTED[group][name], one.sample.profile
        found = judge(name, path, expected, profile)
        if group == "user":
            found = replace(found, level=at_most_partly(found.level))
            if not profile.at(organization).accepted(expected.kinds):
                return found
        return replace(found, settings={} if organization == path else {"organization_field": organization})

    def judge(self, one: Inspected, inspected: Mapping[Group, Inspected], organization: str) -> Iterator[FieldFinding]:
        """Judge the references to contacts and conversations. A message needs only one of the two."""
        targets: dict[str, Group] = {"contactId": "contact", "conversationId": "conversation"}
        names = [name for name in targets if name in EXPECTED[one.group]]
        found = [self._reference(name, one, inspected[targets[name]], organization) for name in names]
        leads = any(each.level in (Fit.FITS, Fit.PARTLY) for each in found)
        is_mappable = any(each.settings for each in found)
        for each in found:
            if one.group == "message" and (leads or (is_mappable and not each.settings)):
                yield replace(each, level=at_most_partly(each.level))
            else:
                yield replace(each, level=each.level if leads else Fit.FAULT)

    def organization(self, inspected: Mapping[Group, Inspected]) -> str:
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
        setting = SETTINGS[one.group][name]
        return replace(found, settings={setting: better}) if better and setting else found

    def find_resolver(self, found: FieldFinding, one: Inspected, users: Inspected) -> FieldFinding:
        """Suggest the only reference to a user as the one who resolved a conversation."""
        profile, setting = one.sample.profile, SETTINGS[one.group][found.name]
        paths = [] if found.settings else paths_of_ids(profile, ())[:_CANDIDATES]
        leading = [each for each in paths if self._share(users, profile.at(each).ids) >= _JOINED]
        # One that all conversations have is most often who they are assigned to.
        leading = [each for each in leading if profile.at(each).present < profile.sampled]
        return replace(found, settings={setting: leading[0]}) if setting and len(leading) == 1 else found

    def _share(self, target: Inspected, ids: Counter[ObjectId]) -> float:
        found = known(self._connections, target.sample.collection, ids)
        return sum(ids[each] for each in found) / ids.total() if ids else 0.0


def at_most_partly(level: Fit) -> Fit:
    """Return the level of a field without which snapshots can be made."""
    return Fit.PARTLY if level is Fit.FAULT else level
