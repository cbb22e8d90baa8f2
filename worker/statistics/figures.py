"""The figures in the output of `snapshots stats` and of the HTTP API."""

from typing import Annotated

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

Id = Annotated[
    ObjectId, PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{24}$"})
]


class Figures(BaseModel):
    """A JSON object with camelCase names."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, frozen=True, arbitrary_types_allowed=True
    )


class Count(Figures):
    """The number of snapshots with one value."""

    value: str | None = Field(description="null: the snapshots without a value")
    snapshots: int


class Values(Figures):
    """The most frequent values of a field, in order of frequency."""

    values: list[Count]
    more: bool = Field(description="whether there are further, rarer values")


class Bucket(Figures):
    """How many snapshots have a length in this range."""

    least: int
    most: int | None = Field(description="null: no limit")
    snapshots: int


class Lengths(Figures):
    """How long snapshots are. `median` and `p90`: half and nine tenths of them are no longer than this."""

    snapshots: int
    median: int | None
    p90: int | None
    longest: int | None
    buckets: list[Bucket]


class Duplicates(Figures):
    """Snapshots with the same messages, by `contentHash`."""

    groups: int = Field(description="how many different contents occur more than once")
    snapshots: int = Field(description="how many snapshots have one of them")
    surplus: int = Field(description="how many snapshots would be removed if each content were kept once")


class Reason(Figures):
    """The number of snapshots that a format skips for one reason."""

    reason: str
    snapshots: int


class FormatFigures(Figures):
    """How many snapshots a format can represent, and why it skips the others."""

    format: str
    usable: int = Field(description="snapshots that it can represent")
    rows: int
    skipped: list[Reason]


class Sample(Figures):
    """Figures that need the whole snapshot, from a random sample."""

    snapshots: int = Field(description="size of the sample")
    complete: bool = Field(description="whether the sample consists of all the snapshots, so that its counts are exact")
    characters: Lengths
    channels: Values
    languages: Values | None = Field(
        description="ISO 639 codes, `und` if undetermined; null if the extra `languages` is not installed"
    )
    formats: list[FormatFigures]


class Statistics(Figures):
    """The figures of the selected snapshots of an organization. All counts but those of the sample are exact."""

    organization_id: Id
    snapshots: int
    qualities: Values
    categories: Values
    tags: Values
    conversation_months: Values = Field(description="when the conversations began, in UTC, such as 2026-05")
    created_months: Values = Field(description="when the snapshots were made")
    messages: Lengths
    duplicates: Duplicates
    sample: Sample
