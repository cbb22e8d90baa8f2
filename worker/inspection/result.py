"""The result of an inspection."""

from dataclasses import dataclass, field

from worker.inspection.matching import FieldFinding, Fit
from worker.inspection.profile import PathProfile
from worker.inspection.sampling import Sample
from worker.settings.field_mapping import Group


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

    `settings`: values that would map the fields that do not fit, by name without prefix. `incomplete`: the same, if
    only the platform's team knows what some values mean.
    """

    database: str
    collections: list[Inspected]
    settings: dict[str, str]
    incomplete: dict[str, str]
    others: list[str]
    """Collections of the database that are neither inspected nor named by a setting."""
    other_databases: list[str] = field(default_factory=list)
    """If the database has none of the four collections: the other databases of the server."""

    @property
    def fits(self) -> bool:
        """Whether all required fields fit with the current settings."""
        faults = [each for one in self.collections for each in one.findings if each.level is Fit.FAULT]
        return not faults
