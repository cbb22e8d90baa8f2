"""Policies: which closings of an organization's conversations make a snapshot, and how it is labelled.

One document per organization in `snapshotpolicies`; a field that it does not have is as in `Policy`.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated, Any

from bson import ObjectId
from pydantic import AfterValidator, Field
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from worker.domain.requests import Label, Tags
from worker.domain.validation import CamelModel
from worker.errors import InvalidRequest
from worker.log import get_logger
from worker.settings import Settings
from worker.stores.connections import Connections, Document, store_errors

log = get_logger(__name__)

_CACHE_SECONDS = 3.0
_CACHED = 10_000
_OWN_FIELDS = ("_id", "organizationId", "updatedAt", "createdAt", "__v")
_SHARES = 2**64


def _check_channel_types(value: list[str]) -> list[str]:
    if not value or not all(each.strip() for each in value):
        raise ValueError("should name at least one channel type, none of them blank, or be null for all")
    return value


class Policy(CamelModel):
    """What becomes of an organization's closings."""

    enabled: bool = True
    channel_types: Annotated[list[str], AfterValidator(_check_channel_types)] | None = None
    """None: all. Upper and lower case are one."""
    minimum_messages: Annotated[int, Field(ge=0, le=1_000_000)] = 2
    minimum_from_contact: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    minimum_from_user: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    sampling_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    tags: Tags = Field(default_factory=list)
    category: Label | None = None
    quality: Label | None = None
    settle_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    """None: the setting SNAPSHOTS_SETTLE_SECONDS."""

    @property
    def counts_sides(self) -> bool:
        return self.minimum_from_contact > 0 or self.minimum_from_user > 0

    @property
    def counts_messages(self) -> bool:
        return self.minimum_messages > 0 or self.counts_sides

    def settle(self, settings: Settings) -> timedelta:
        """How long after its closing a conversation still takes messages."""
        own = settings.settle_seconds if self.settle_seconds is None else self.settle_seconds
        return timedelta(seconds=own)

    def leaves_out(self, conversation: ObjectId, channels: Iterable[str]) -> str | None:
        """Why a closing makes no snapshot, as far as its messages need no counting; None where none is known."""
        if not self.enabled:
            return "policy_disabled"
        if self.channel_types is not None:
            allowed = {each.casefold() for each in self.channel_types}
            if not any(each.casefold() in allowed for each in channels):
                return "channel_type"
        return None if self.samples(conversation) else "sampled_out"

    def finds_too_few(self, total: int, from_contact: int, from_user: int) -> str | None:
        """Why a closing with so many messages makes no snapshot; None where it makes one."""
        if total < self.minimum_messages:
            return "too_few_messages"
        if from_contact < self.minimum_from_contact:
            return "too_few_from_contact"
        return "too_few_from_user" if from_user < self.minimum_from_user else None

    def samples(self, conversation: ObjectId) -> bool:
        """Whether a conversation is in the share: by its id alone, so always the same; a larger share keeps it in."""
        place = int.from_bytes(hashlib.sha256(str(conversation).encode()).digest()[:8])
        return place < self.sampling_share * _SHARES

    def to_json(self) -> dict[str, Any]:
        """All fields, camelCase."""
        return self.model_dump(by_alias=True)


DEFAULT = Policy()


class Policies:
    """The collection of policies, read through a cache of a few seconds."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._cache: dict[ObjectId, tuple[float, Policy | None]] = {}

    @property
    def collection(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.policies_collection]

    def of(self, organizations: Iterable[ObjectId]) -> dict[ObjectId, Policy | None]:
        """Each organization's policy, up to 3 s old; None where its document is not valid (which is logged)."""
        wanted = set(organizations)
        now = time.monotonic()
        fresh = {key: kept for key in wanted if (kept := self._cache.get(key)) and now - kept[0] < _CACHE_SECONDS}
        if missing := wanted - fresh.keys():
            if len(self._cache) > _CACHED:
                self._cache.clear()
            with store_errors():
                found = {each["organizationId"]: each for each in self.collection.find(_of(missing))}
            fresh |= {key: (now, self._read(found[key]) if key in found else DEFAULT) for key in missing}
            self._cache |= fresh
        return {key: policy for key, (_, policy) in fresh.items()}

    def _read(self, document: Document) -> Policy | None:
        try:
            return self.read(document)
        except InvalidRequest as error:
            log.error("policy_invalid", organization_id=str(document["organizationId"]), reason=error.message)
            return None

    def read(self, document: Document) -> Policy:
        """A document's policy. Raises InvalidRequest, which names the fields at fault."""
        fields = {name: value for name, value in document.items() if name not in _OWN_FIELDS}
        return Policy.read(fields, self._connections.settings)

    def get(self, organization: ObjectId) -> tuple[Policy, bool]:
        """The policy now, and whether the organization has one of its own. Raises InvalidRequest."""
        with store_errors():
            document = self.collection.find_one({"organizationId": organization})
        return (self.read(document), True) if document else (DEFAULT, False)

    def all(self) -> list[Document]:
        """The documents that there are, by organization."""
        with store_errors():
            return list(self.collection.find().sort("organizationId", 1))

    def set(self, organization: ObjectId, fields: Document, clear: Sequence[str] = ()) -> Policy:
        """Changes these fields and puts those of `clear` back to the default; the policy then.

        Raises InvalidRequest before anything is written.
        """
        checked = Policy.read(fields, self._connections.settings).to_json()
        change: Document = {
            "$set": {name: checked[name] for name in fields} | {"updatedAt": self._connections.clock.now()},
        }
        if clear:
            change["$unset"] = dict.fromkeys(clear, "")
        with store_errors():
            try:
                self.collection.update_one({"organizationId": organization}, change, upsert=True)
            except DuplicateKeyError:  # another's first upsert was quicker; now there is one to update
                self.collection.update_one({"organizationId": organization}, change)
        self._cache.pop(organization, None)
        return self.get(organization)[0]


def _of(organizations: Iterable[ObjectId]) -> Document:
    return {"organizationId": {"$in": list(organizations)}}
