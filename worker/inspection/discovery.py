"""Finds the platform's collections by how their documents refer to each other, whatever their names.

A message has text, a time, and a reference to its conversation; a conversation has one to its contact. Organizations
and users are referred to as well, but by few different ids.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bson import ObjectId

from worker.inspection.matching import is_dated, is_text, paths_of_ids
from worker.inspection.profile import Profile
from worker.inspection.sampling import Sample, known, sample
from worker.settings.field_mapping import Group
from worker.stores.connections import Connections

_COLLECTIONS = 40
"""Maximum number of collections to sample."""
_SIZE, _SECONDS = 100, 1.0
_PATHS, _IDS = 8, 10
"""Maximum number of references of a collection to follow, and of ids of each."""
_JOINED = 0.5
"""The share of these ids that must lead to a document."""


@dataclass(frozen=True)
class _Reference:
    """A path whose ids are those of documents of another collection."""

    target: str
    different: int
    """How many different ids the sampled documents have there."""


def discover(connections: Connections, existing: Iterable[str], found: Mapping[Group, str]) -> dict[Group, str]:
    """Return the collections of the groups that are not found yet, as far as references tell.

    Args:
        connections: The connections to the platform's database.
        existing: The names of its other collections, without those of this service.
        found: The collections that are known already, by group.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB did not answer.
    """
    names = list(dict.fromkeys([*found.values(), *existing]))[:_COLLECTIONS]
    samples = {name: sample(connections, name, _SIZE, _SECONDS) for name in names}
    references = _References(connections, samples)
    groups = dict(found)
    if "message" not in groups:
        alike = [each for each in samples.values() if _is_like_messages(each.profile) and references[each.collection]]
        free = [each for each in alike if each.collection not in groups.values()]
        if not free:
            return {}
        groups["message"] = max(free, key=lambda each: each.documents).collection
    if "conversation" not in groups:
        targets = [each for each in references[groups["message"]] if references[each.target]]
        _choose("conversation", targets, groups)
    if "contact" not in groups:
        _choose("contact", references[groups.get("conversation", groups["message"])], groups)
    if "user" not in groups:
        of_both = [*references[groups["message"]], *references[groups.get("conversation", "")]]
        organizations = {each.target for each in references[groups.get("contact", "")]}
        _choose("user", [each for each in of_both if each.target not in organizations], groups)
    return {group: name for group, name in groups.items() if group not in found}


def _choose(group: Group, targets: Iterable[_Reference], groups: dict[Group, str]) -> None:
    free = [each for each in targets if each.target not in groups.values()]
    if free:
        groups[group] = max(free, key=lambda each: each.different).target


def _is_like_messages(profile: Profile) -> bool:
    has_time = any(is_dated(here, profile) for here in profile.paths.values())
    return has_time and any(is_text(path, here, profile) for path, here in profile.paths.items())


class _References(dict[str, list[_Reference]]):
    """The references of each collection, looked up when they are first needed."""

    def __init__(self, connections: Connections, samples: Mapping[str, Sample]) -> None:
        super().__init__()
        self._connections, self._samples = connections, samples

    def __missing__(self, name: str) -> list[_Reference]:
        profile = self._samples[name].profile if name in self._samples else Profile()
        ids = [profile.at(path).ids for path in paths_of_ids(profile, ())[:_PATHS]]
        others = [other for other in self._samples if other != name]
        self[name] = [_Reference(to, len(each)) for each in ids for to in others if self._lead(list(each)[:_IDS], to)]
        return self[name]

    def _lead(self, ids: Sequence[ObjectId], target: str) -> bool:
        return len(known(self._connections, target, ids)) >= _JOINED * len(ids)
