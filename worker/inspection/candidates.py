"""Finds fields that may be meant although neither names nor types tell, for the team to choose from. Pure."""

from collections.abc import Collection, Iterator

from worker.inspection.matching import is_change, is_state
from worker.inspection.profile import PathProfile, Profile

OR = "|"
"""Separates alternatives in an incomplete setting that names a field."""
_MOST, _HALF, _ALL = 4, 0.5, 0.95
_MAX_VALUES = 12


def times(profile: Profile) -> str:
    """Return the paths at which almost all documents have a date, apart from times of change."""
    return _joined(path for path, here in _dates(profile) if here.present >= _ALL * profile.sampled)


def rare_times(profile: Profile, used: Collection[str]) -> str:
    """Return the paths at which few documents have a date, such as the time of a deletion."""
    return _joined(
        path for path, here in _dates(profile) if here.present < _HALF * profile.sampled and path not in used
    )


def names(profile: Profile, used: Collection[str], *, last: bool) -> str:
    """Return the paths of texts that look like names, the second one first if `last`."""
    alike = [path for path, here in profile.paths.items() if here.looks["name"] > _HALF * max(here.present, 1)]
    found = [path for path in alike if path not in used]
    return _joined([*found[1:2], *found[:1], *found[2:]] if last else found)


def kinds(profile: Profile, share: float = _HALF, used: Collection[str] = ()) -> dict[str, list[str]]:
    """Return the paths of texts with few different values, and the values, which are words but no personal data.

    Args:
        profile: The sampled documents of the collection.
        share: The least share of the documents that have a value.
        used: Paths that hold something else.
    """
    return {
        path: sorted(here.values)
        for path, here in profile.paths.items()
        if path not in used and set(here.kinds) == {"string"} and here.present >= share * profile.sampled
        if here.values and 1 < len(here.values) <= _MAX_VALUES
        if sum(here.looks[look] for look in ("sentence", "email", "phone")) < _HALF * here.present
    }


def states(profile: Profile) -> dict[str, str]:
    """Return settings with all values of what may be the state of conversations; empty if there is no such field.

    Those that mean open have to be removed.
    """
    found = kinds(profile)
    if not found:
        return {}
    path = max([each for each in found if is_state(each)] or found, key=lambda each: len(found[each]))
    return {"conversation_resolved_field": path, "conversation_resolved_values": ",".join(found[path])}


def _dates(profile: Profile) -> Iterator[tuple[str, PathProfile]]:
    for path, here in profile.paths.items():
        if here.present and here.kinds["date"] >= _HALF * here.present and not is_change(path):
            yield path, here


def _joined(paths: Collection[str] | Iterator[str]) -> str:
    return OR.join(list(paths)[:_MOST])
