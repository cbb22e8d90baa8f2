"""Policies: the rules of an organization for its snapshots.

They say which closings make a snapshot, how it is labelled, what is redacted, and how long snapshots are kept.

`snapshotpolicies` has one document per organization; a missing field has the default of `Policy`.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from bson import ObjectId
from pydantic import AfterValidator, Field
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from worker.domain.keep_for import KeepFor, check_keep_for
from worker.domain.requests import Label, Tags
from worker.domain.validation import CamelModel
from worker.errors import InvalidRequest
from worker.log import get_logger
from worker.redaction.kinds import check_kinds, check_regions
from worker.settings import Settings
from worker.stores.connections import Connections, Document, store_errors

log = get_logger(__name__)

_CACHE_SECONDS, _MAX_CACHED = 3.0, 10_000
"""How long a policy is cached, and the maximum number of policies in a cache."""
_OWN_FIELDS = ("_id", "organizationId", "updatedAt", "createdAt", "__v")
_SHARES = 2**64
_REDACTION = {"redact", "redactRegions"}


def _check_channel_types(value: list[str]) -> list[str]:
    if not value or not all(name.strip() for name in value):
        raise ValueError("should name at least one channel type, none of them blank, or be null for all")
    return value


class Policy(CamelModel):
    """The rules for an organization's closings and labels, what all snapshots redact, and how long they are kept."""

    enabled: bool = True
    channel_types: Annotated[list[str], Field(fail_fast=True), AfterValidator(_check_channel_types)] | None = None
    """Channel types that are admitted, in any case. None admits all."""
    minimum_messages: Annotated[int, Field(ge=0, le=1_000_000)] = 2
    minimum_from_contact: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    minimum_from_user: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    sampling_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    tags: Tags = Field(default_factory=list)
    category: Label | None = None
    quality: Label | None = None
    settle_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    """Seconds. None means the setting SNAPSHOTS_SETTLE_SECONDS."""
    redact: Annotated[list[str], Field(fail_fast=True), AfterValidator(check_kinds)] = Field(default_factory=list)
    """Kinds of personal data to redact in every snapshot of the organization, not only in those of closings."""
    redact_regions: Annotated[list[str], Field(fail_fast=True), AfterValidator(check_regions)] = Field(
        default_factory=list
    )
    """Regions of phone numbers and national ids, such as `DE`."""
    redact_version: Annotated[int, Field(ge=0)] = 0
    """Grows by 1 with each change of `redact` or `redact_regions`."""
    keep_for: Annotated[list[str], Field(fail_fast=True), AfterValidator(check_keep_for)] = Field(default_factory=list)
    """How long snapshots are kept, such as `400d`, and `good=1000d` for one quality; empty keeps them forever."""

    @property
    def keeps_for(self) -> KeepFor:
        """How long snapshots are kept, by quality."""
        return KeepFor.read(self.keep_for)

    @property
    def counts_sides(self) -> bool:
        """Whether the policy requires a minimum number of messages from one side."""
        return self.minimum_from_contact > 0 or self.minimum_from_user > 0

    @property
    def counts_messages(self) -> bool:
        """Whether the policy requires a minimum number of messages, in total or from one side."""
        return self.minimum_messages > 0 or self.counts_sides

    def settle_delay(self, settings: Settings) -> timedelta:
        """Return the settle delay: how long after a closing new messages still become part of the snapshot."""
        own = settings.settle_seconds if self.settle_seconds is None else self.settle_seconds
        return timedelta(seconds=own)

    def skip_reason(self, conversation: ObjectId, channels: Iterable[str]) -> str | None:
        """Return why a closing is skipped, judged without its messages, or None if it is admitted."""
        if not self.enabled:
            return "policy_disabled"
        if self.channel_types is not None:
            allowed = {name.casefold() for name in self.channel_types}
            if not any(name.casefold() in allowed for name in channels):
                return "channel_type"
        return None if self.is_in_sample(conversation) else "sampled_out"

    def skip_reason_by_count(self, total: int, from_contact: int, from_user: int) -> str | None:
        """Return why a closing with these numbers of messages is skipped, or None if it is admitted.

        `total`: all messages. `from_contact`, `from_user`: those of the contact, and of the platform's side.
        """
        if total < self.minimum_messages:
            return "too_few_messages"
        if from_contact < self.minimum_from_contact:
            return "too_few_from_contact"
        return "too_few_from_user" if from_user < self.minimum_from_user else None

    def is_in_sample(self, conversation: ObjectId) -> bool:
        """Return whether a conversation belongs to the sample that `sampling_share` selects.

        The answer depends on its id alone, so it never changes, and a larger share includes every smaller one.
        """
        place = int.from_bytes(hashlib.sha256(str(conversation).encode()).digest()[:8])
        return place < self.sampling_share * _SHARES

    def to_json(self) -> dict[str, Any]:
        """Return all fields as a JSON object with camelCase names."""
        return self.model_dump(by_alias=True)


DEFAULT = Policy()


def fingerprint(policy: Policy | None) -> str:
    """Return a hash of a policy, to detect changes, or a constant if the policy is invalid."""
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()[:16] if policy else "invalid"


@cache
def policies_of(connections: Connections) -> "Policies":
    """Return the `Policies` of this process, whose cache all runs share."""
    return Policies(connections)


class Policies:
    """The collection of policies, read through a cache of a few seconds."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._cache: dict[ObjectId, tuple[float, Policy | None]] = {}

    @property
    def collection(self) -> Collection[Document]:
        """The collection `snapshotpolicies`."""
        return self._connections.database[self._connections.settings.policies_collection]

    def of(self, organizations: Iterable[ObjectId]) -> dict[ObjectId, Policy | None]:
        """Return each organization's policy, up to 3 s old, or None if its document is invalid, which is logged."""
        keys = set(organizations)
        now = time.monotonic()
        fresh = {key: cached for key in keys if (cached := self._cache.get(key)) and now - cached[0] < _CACHE_SECONDS}
        if missing := keys - fresh.keys():
            if len(self._cache) > _MAX_CACHED:
                self._cache.clear()
            with store_errors():
                found = self.collection.find({"organizationId": {"$in": list(missing)}})
                documents = {document["organizationId"]: document for document in found}
            fresh |= {key: (now, self._read(documents[key]) if key in documents else DEFAULT) for key in missing}
            self._cache |= fresh
        return {key: policy for key, (_, policy) in fresh.items()}

    def _read(self, document: Document) -> Policy | None:
        try:
            return self.read(document)
        except InvalidRequest as error:
            log.error("policy_invalid", organization_id=str(document["organizationId"]), reason=error.message)
            return None

    def read(self, document: Document) -> Policy:
        """Read the policy in a document. Raises InvalidRequest, which names the faulty fields."""
        fields = {name: value for name, value in document.items() if name not in _OWN_FIELDS}
        return Policy.read(fields, self._connections.settings)

    def get(self, organization: ObjectId, session: ClientSession | None = None) -> tuple[Policy, bool]:
        """Return the current policy, and whether the organization has one of its own. Raises InvalidRequest."""
        with store_errors():
            document = self.collection.find_one({"organizationId": organization}, session=session)
        return (self.read(document), True) if document else (DEFAULT, False)

    def all(self) -> list[Document]:
        """Return the policy documents, sorted by organization. One of no organization belongs to another program."""
        with store_errors():
            return list(self.collection.find({"organizationId": {"$exists": True}}).sort("organizationId", 1))

    def set(self, organization: ObjectId, fields: Document, clear: Sequence[str] = ()) -> Policy:
        """Set these fields, reset those in `clear` to their defaults, and return the resulting policy.

        Raises InvalidRequest before anything is written if one of these fields is faulty, and afterwards if another
        field of the stored policy is.
        """
        checked = Policy.read(fields, self._connections.settings).to_json()
        change: Document = {
            "$set": {name: checked[name] for name in fields} | {"updatedAt": self._connections.clock.now()},
        }
        if clear:
            change["$unset"] = dict.fromkeys(clear, "")
        if _REDACTION & {*fields, *clear}:
            change["$inc"] = {"redactVersion": 1}
        with store_errors():
            try:
                self.collection.update_one({"organizationId": organization}, change, upsert=True)
            except DuplicateKeyError:  # a concurrent first upsert won; now there is a document to update
                self.collection.update_one({"organizationId": organization}, change)
        self._cache.pop(organization, None)
        return self.get(organization)[0]
