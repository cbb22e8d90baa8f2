"""Compares a collection's profile with the expected fields, and finds other fields for those that do not fit. Pure.

A field is suggested if its name is one that other platforms use, and at least half of its values have accepted types.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from worker.domain.source_fields import CollectionFields
from worker.inspection.expected import ID, INTERNAL, Expected, spelled
from worker.inspection.profile import PathProfile, Profile

_LEAST_SHARE = 0.5
"""The share of a path's values that must have an accepted type before the path is suggested."""
_CHANGES = frozenset({"createdat", "insertedat", "updatedat", "modifiedat", "changedat"})
_OPENED = ("open", "start", "begin", "began", "creat", "first")
"""Beginnings of names of times at which a conversation begins."""
_MARKED_UP = ("html", "raw", "json", "xml", "markdown")
_CLOSED = frozenset(
    [
        *("closed", "resolved", "solved", "done", "completed", "complete", "finished", "ended", "settled", "handled"),
        "concluded",
    ]
)
_MERE_NAMES = ("id", "ref", "oid", "key", "value", "number", "address", "e164", "at", "on", "by")
"""Names that say nothing without the level above, such as `address` in `mail.address`."""
_STATES = ("status", "state", "stage", "phase")
_OPEN_FLAGS = ("isopen", "open", "isactive", "active")


class Fit(Enum):
    """How well a field fits."""

    FITS = "fits"
    OPTIONAL = "optional"
    """The field is missing or of another type, but nothing depends on it."""
    PARTLY = "partly"
    """Some documents do not fit."""
    FAULT = "does not fit"


@dataclass(frozen=True)
class FieldFinding:
    """How well one field of the platform fits, in words, and the settings that would map it."""

    name: str
    path: str
    level: Fit
    text: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that would map the field, by name without prefix."""
    incomplete: Mapping[str, str] = field(default_factory=dict)
    """The same if they are only a guess, or have values whose meaning only the platform's team knows."""


def judge(name: str, path: str, expected: Expected, profile: Profile) -> FieldFinding:
    """Compare the sampled values of one field with what is expected.

    Args:
        name: This service's name of the field.
        path: Where the platform stores it, with dots between the levels.
        expected: The types that are accepted, and whether the field is required.
        profile: The sampled documents of the collection.
    """
    here = profile.at(path)
    fitting = here.accepted(expected.kinds)
    accepted = " or ".join(expected.kinds)
    if not here.present:
        if expected.required:
            return FieldFinding(name, path, Fit.FAULT, f"missing from all sampled documents; required: {accepted}")
        return FieldFinding(name, path, Fit.OPTIONAL, "missing from all sampled documents")
    share = percent(here.present, profile.sampled)
    if fitting == here.present and (not expected.required or here.present == profile.sampled):
        return FieldFinding(name, path, Fit.FITS, f"{_kinds(here)}, in {share}")
    if not fitting:
        level = Fit.FAULT if expected.required else Fit.PARTLY
        return FieldFinding(name, path, level, f"{_kinds(here)}, in {share}; accepted: {accepted}")
    wrong = here.present - fitting
    text = f"{_kinds(here)}, in {share}"
    if wrong:
        text += f"; {percent(wrong, here.present)} are not {accepted}"
    return FieldFinding(name, path, Fit.PARTLY, text)


def best_path(expected: Expected, profile: Profile) -> str | None:
    """Return the path whose name and types fit an expectation best; None if none fits."""
    ranked = [
        (rank, -profile.at(path).present, path.count("."), path)
        for path in profile.paths
        if (rank := _rank(path, expected.names)) is not None and _is_accepted(profile.at(path), expected)
    ]
    return min(ranked)[-1] if ranked else None


def paths_of_ids(profile: Profile, names: Iterable[str]) -> list[str]:
    """Return the paths with ids, those with likely names first."""
    wanted = tuple(names)
    paths = [path for path, each in profile.paths.items() if _is_accepted(each, Expected((ID,)))]
    return sorted(paths, key=lambda path: (_order(_rank(path, wanted)), -profile.at(path).present, path))


def best_flag(names: Iterable[str], profile: Profile, *, dates: bool) -> str | None:
    """Return the path of a flag that some sampled document has, or None. Null counts as a value.

    `names`: names that platforms use, most likely first. `dates`: whether a date may serve as the flag.
    """
    kinds = {"bool", "date"} if dates else {"bool"}
    found = [path for path, each in profile.paths.items() if set(each.kinds) <= kinds]
    ranked = [(rank, path) for path in found if (rank := _rank(path, tuple(names))) is not None]
    return min(ranked)[1] if ranked else None


def only_path(kind: str, share: float, profile: Profile) -> str | None:
    """Return the only path that may be meant by its type: the values differ. None if there are several.

    Times of creation and of the last change do not count.

    Args:
        kind: `date`, or `string` for text: most values have several words, and are no mark-up.
        share: The least share of the documents that have a value. With 0, a time that some documents lack is preferred,
            and times of opening do not count.
    """
    found = [
        path
        for path, here in profile.paths.items()
        if here.kinds[kind] >= _LEAST_SHARE * here.present and here.present >= share * profile.sampled
        if not here.values and not here.id_count
        if (not is_change(path) if kind == "date" else is_text(path, here, profile))
    ]
    if not share:
        found = [each for each in found if not _last(each).startswith(_OPENED)]
        found = [each for each in found if profile.at(each).present < profile.sampled] or found
    return found[0] if len(found) == 1 else None


def path_of_look(look: str, profile: Profile) -> str | None:
    """Return the only path whose values look like this, such as `email`. None if there are several."""
    found = [path for path, here in profile.paths.items() if here.looks[look] > _LEAST_SHARE * here.present]
    return found[0] if len(found) == 1 else None


def is_text(path: str, here: PathProfile, profile: Profile) -> bool:
    """Return whether most documents have text of several words there, which is no mark-up."""
    if _last(path).endswith(_MARKED_UP) or here.present < _LEAST_SHARE * profile.sampled:
        return False
    return here.looks["sentence"] >= _LEAST_SHARE * here.present > 0


def is_change(path: str) -> bool:
    """Return whether a path is named like the time of creation or of the last change."""
    return _last(path) in _CHANGES


def is_dated(here: PathProfile, profile: Profile) -> bool:
    """Return whether most documents have a date there."""
    return here.kinds["date"] >= _LEAST_SHARE * profile.sampled > 0


def _last(path: str) -> str:
    return spelled(path.rpartition(".")[2])


def internal_values(profile: Profile) -> Mapping[str, str]:
    """Return the settings for a field of which some values mean an internal note; empty if there is none."""
    for path, here in profile.paths.items():
        if found := sorted(value for value in here.values or () if spelled(value) in INTERNAL):
            return {"message_internal_field": path, "message_internal_values": ",".join(found)}
    return {}


def is_state(path: str) -> bool:
    """Return whether a path is named like the state of a conversation."""
    return _rank(path, _STATES) is not None


def resolved_settings(expected: Expected, profile: Profile, fields: CollectionFields) -> dict[str, str]:
    """Return the settings that identify resolved conversations: a flag, an inverted flag or a state.

    `fields`: the current mapping, which is left alone if it fits. The result is empty if it fits or nothing was found.
    """
    if path := best_path(expected, profile):
        return {} if path == fields["isResolved"] else {"conversation_resolved_field": path}
    for path, here in profile.paths.items():
        if is_state(path) and here.values:
            closed = sorted(value for value in here.values if spelled(value) in _CLOSED)
            if closed:
                return {"conversation_resolved_field": path, "conversation_resolved_values": ",".join(closed)}
        if _rank(path, _OPEN_FLAGS) is not None and set(here.kinds) == {"bool"}:
            return {"conversation_resolved_field": path, "conversation_resolved_values": "false"}
    return {}


def _is_accepted(here: PathProfile, expected: Expected) -> bool:
    return here.present > 0 and here.accepted(expected.kinds) >= _LEAST_SHARE * here.present


def _rank(path: str, names: tuple[str, ...]) -> int | None:
    """Return the rank of a path by its name, 0 being the most likely, or None if it matches none of the names.

    A match of the whole path ranks above one of its last part, and that above one of the level above `id`, `ref` or
    the like.
    """
    parts = [spelled(part) for part in path.split(".")]
    above = [(2, parts[-2])] if len(parts) > 1 and parts[-1] in _MERE_NAMES else []
    for penalty, name in ((0, "".join(parts)), (1, parts[-1]), *above):
        if name in names:
            return 3 * names.index(name) + penalty
    return None


def _order(rank: int | None) -> int:
    return 10_000 if rank is None else rank


def _kinds(here: PathProfile) -> str:
    return ", ".join(kind for kind, _ in here.kinds.most_common())


def percent(part: int, whole: int) -> str:
    """Return a share for people, such as `12 %`. It is 0 % or 100 % only if it is exactly that."""
    if not whole:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.0f} %" if share in (0, 100) or 1 <= share <= 99 else "<1 %" if share < 1 else ">99 %"
