"""Judges the fields of sampled messages that omit deleted and internal ones, and suggests them. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator

from worker.inspection.candidates import OR, kinds, rare_times
from worker.inspection.expected import FLAGS, Expected
from worker.inspection.matching import FieldFinding, Fit, best_flag, internal_values, judge, percent
from worker.inspection.profile import Profile
from worker.settings import Settings
from worker.settings.field_mapping import read_list, variable

_UNSET = {"false", "0"}
"""Values of a flag that mean that it is not set, as a profile has them."""


def judge_flags(profile: Profile, settings: Settings, used: Collection[str] = ()) -> Iterator[FieldFinding]:
    """Judge the fields that the settings name or, if they name none, suggest those with usual names or values.

    `used`: paths that hold something else.
    """
    for what in ("deleted", "internal"):
        setting = f"message_{what}_field"
        if getattr(settings, setting):
            yield _judge(what, profile, settings)
        elif path := best_flag(FLAGS[setting], profile, dates=what == "deleted"):
            text = f"may mark {what} messages, which are part of snapshots unless a setting names it"
            yield FieldFinding(what, path, Fit.OPTIONAL, text, {setting: path})
        elif what == "internal" and (found := internal_values(profile)):
            text = (
                f"{found['message_internal_values']} may mark internal messages, which are part of snapshots unless "
                "the settings name this field and value"
            )
            yield FieldFinding(what, found[setting], Fit.OPTIONAL, text, found)
        elif possible := _possible(what, profile, used):
            text = f"no setting names a field, so {what} messages are part of snapshots"
            yield FieldFinding(what, what, Fit.OPTIONAL, text, incomplete=possible)


def _possible(what: str, profile: Profile, used: Collection[str]) -> dict[str, str]:
    """Return settings for fields that may mark such messages."""
    if what == "deleted":
        found = rare_times(profile, used)
        return {"message_deleted_field": found} if found else {}
    values = kinds(profile, used=used)
    if not values:
        return {}
    return {"message_internal_field": OR.join(values), "message_internal_values": ",".join(next(iter(values.values())))}


def _judge(what: str, profile: Profile, settings: Settings) -> FieldFinding:
    path, listed = getattr(settings, f"message_{what}_field"), getattr(settings, f"message_{what}_values")
    here = profile.at(path)
    if not here.present:
        return FieldFinding(what, path, Fit.PARTLY, "missing from all sampled documents, so no message is omitted")
    if not listed:
        found = judge(what, path, Expected(("bool", "date")), profile)
        if {"bool", "date"}.issuperset(here.kinds):
            return found
        if here.present == profile.sampled and not _UNSET.intersection(here.values or ()):
            advice = f"set {variable(f'message_{what}_values')} to the values that mean {what}"
            return FieldFinding(what, path, Fit.FAULT, f"{found.text}; every message would be omitted: {advice}")
        unset = sum(Counter(here.values)[each] for each in _UNSET)
        text = f"{found.text.partition(';')[0]}; omits {percent(here.present - unset, profile.sampled)} of the messages"
        return FieldFinding(what, path, Fit.FITS, text)
    wanted, values = read_list(listed), Counter(here.values)
    text = f"omits {percent(sum(values[each] for each in wanted), profile.sampled)} of the messages"
    if values and values.keys() <= set(wanted) and here.present == profile.sampled:
        return FieldFinding(what, path, Fit.FAULT, f"{text}: keep only the values that mean {what}")
    unknown = [each for each in wanted if each not in values]
    if unknown:
        return FieldFinding(what, path, Fit.PARTLY, f"{text}; not found: {', '.join(unknown)}")
    return FieldFinding(what, path, Fit.FITS, text)
