"""The specification of an export, validated from what a caller sends."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pydantic import AfterValidator, Field

from worker.clock import to_json
from worker.domain.snapshot_filter import SnapshotFilter
from worker.domain.validation import LINE_BREAKS, check_text
from worker.errors import InvalidRequest
from worker.exports.split import Shares, parse_shares
from worker.formats.base import Format
from worker.formats.dataset import Options
from worker.formats.registry import get_format
from worker.redaction.kinds import check_kinds, check_regions
from worker.redaction.redactor import Redactor
from worker.settings import Settings

MAX_SYSTEM = 100_000
_CLAMPED: CodecOptions[Any] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP)
"""With an offset, a time may be hours before the year 1 or after the year 9999."""


def _check_split(value: str) -> str:
    parse_shares(value)
    return value


def _check_lines(value: str) -> str:
    return check_text(value, LINE_BREAKS)


class ExportSpec(SnapshotFilter):
    """The options of an export: the body of `POST /api/training/exports`, and the options of `snapshots export`.

    It has the filters of `SnapshotFilter` and these fields:

    - `format`: the name of a format, such as `messages`. The only required field.
    - `split`: percentages for train, validation and test, such as `90/5/5`. Without it, everything is in `train`.
    - `stratify`: `quality` gives each quality the same shares of the splits. Needs `split`.
    - `dedupe`: export only one of several snapshots with equal messages.
    - `system`, `weightBad`: options of some formats (`worker.formats.dataset.Options`).
    - `compress`: `gzip` or `zstd`; not for parquet.
    - `redact`, `redactRegions`: kinds of personal data to replace, and regions such as `DE` of phone numbers.
    """

    format: Annotated[str, Field(max_length=100)]
    split: Annotated[str, Field(max_length=50), AfterValidator(_check_split)] | None = None
    stratify: Literal["quality"] | None = None
    dedupe: bool = False
    system: Annotated[str, Field(min_length=1, max_length=MAX_SYSTEM), AfterValidator(_check_lines)] | None = None
    weight_bad: bool = False
    compress: Literal["gzip", "zstd"] | None = None
    redact: Annotated[list[str], Field(fail_fast=True), AfterValidator(check_kinds)] = Field(default_factory=list)
    redact_regions: Annotated[list[str], Field(fail_fast=True), AfterValidator(check_regions)] = Field(
        default_factory=list
    )

    @classmethod
    def checked(cls, data: Any, limits: Settings) -> Self:
        """Validate what a caller sends, including the combination of the fields.

        Args:
            data: A JSON object with camelCase names.
            limits: The settings that limit lengths.

        Raises:
            InvalidRequest: Names each faulty field, what is wrong with it, and what is allowed.

        Example:
            ExportSpec.checked({"format": "messages", "quality": "good", "split": "90/5/5"}, settings())
        """
        spec = cls.read(data, limits)
        found = get_format(spec.format)
        if spec.stratify and not spec.split:
            raise InvalidRequest([{"field": "stratify", "message": "needs a split, such as 90/5/5"}])
        if spec.redact_regions and not spec.redact:
            raise InvalidRequest([{"field": "redactRegions", "message": "needs redact, such as email,phone"}])
        found.check(spec.options)
        if spec.compress and found.suffix == "parquet":
            message = "is not for parquet, whose columns are compressed already"
            raise InvalidRequest([{"field": "compress", "message": message}])
        return spec

    def stored(self) -> dict[str, Any]:
        """Return the given fields as JSON values, which `read_spec` reads again."""
        given: dict[str, Any] = {}
        for name, value in self.model_dump(by_alias=True, exclude_defaults=True).items():
            given[name] = str(value) if isinstance(value, ObjectId) else value
        for name, value in (("from", self.from_), ("to", self.to)):
            if value is not None:
                given[name] = to_json(value.as_datetime(_CLAMPED))
        return given

    @property
    def training_format(self) -> Format:
        """The format that `format` names."""
        return get_format(self.format)

    @property
    def options(self) -> Options:
        """The part of the spec that only the format uses: `system` and `weightBad`."""
        return Options(system=self.system, weight_bad=self.weight_bad)

    @property
    def redactor(self) -> Redactor | None:
        """The redactor for `redact` and `redactRegions`; None if nothing is redacted."""
        return Redactor(self.redact, self.redact_regions) if self.redact else None

    @property
    def shares(self) -> Shares | None:
        """The shares that `split` states; None if everything is in `train`."""
        return parse_shares(self.split) if self.split else None


def read_spec(stored: Mapping[str, Any], limits: Settings) -> ExportSpec:
    """Read the spec that a job stores (`ExportSpec.stored`). Raises InvalidRequest if it is no longer valid."""
    return ExportSpec.checked(dict(stored), limits)
