"""PATCH and DELETE."""

from typing import Any

import pymongo
from bson import ObjectId
from pydantic import Field

from worker.api.responses import NotFinished
from worker.domain.requests import ACCEPTED, CamelModel, Label, Notes, Tags
from worker.domain.validation import json_type
from worker.errors import Deleted, InvalidRequest, NotFound, StoreConflict
from worker.service import Service
from worker.settings import Settings
from worker.stores.connections import Document, store_errors

_SECONDS = 5
_ATTEMPTS = 3
_CAPTURED = frozenset(
    {
        *("_id", "id", "organizationId", "userId", "contactId", "customerName", "customerPhone", "customerEmail"),
        *("messages", "messageIds", "messageCount", "snapshotDate", "conversationStartDate", "conversationEndDate"),
        *("requestId", "conversationId", "trigger", "supersedes", "contentHash", "createdAt", "updatedAt", "__v"),
    }
)


class Edit(CamelModel):
    """What of a snapshot may change."""

    notes: Notes | None = None
    tags: Tags = Field(default_factory=list)
    quality: Label | None = None
    category: Label | None = None
    is_archived: bool = False

    @classmethod
    def changes(cls, data: Any, limits: Settings) -> Document:
        """The given fields, checked, as MongoDB keeps them. Raises InvalidRequest."""
        if isinstance(data, dict) and (captured := sorted(_CAPTURED & data.keys())):
            said = "cannot change: captured messages are immutable, and so is what was captured with them"
            raise InvalidRequest([{"field": name, "message": said} for name in captured])
        given = cls.read(data, limits)
        if not given.model_fields_set:
            allowed = ", ".join(str(field.alias) for field in cls.model_fields.values())
            kind = f"{json_type(data)} without fields"
            raise InvalidRequest([{"field": "body", "message": f"should have one of {allowed}; it is {kind}"}])
        return given.model_dump(by_alias=True, exclude_unset=True)


class Editing:
    """Changes of one organization's snapshots. For threads."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def patch(self, organization: ObjectId, key: ObjectId, changes: Document) -> Document:
        """The document as it is then. Raises NotFound, Deleted, NotFinished, StoreUnavailable."""
        mine = {"_id": key, "organizationId": organization}
        with pymongo.timeout(_SECONDS), store_errors():
            change = {"$set": {**changes, "updatedAt": self._service.clock.now()}}
            found = self._service.snapshots.collection.find_one_and_update(mine, change, return_document=True)
        if found is None:
            raise self._absent(organization, key)
        return found

    def delete(self, organization: ObjectId, key: ObjectId) -> None:
        """Raises NotFound, Deleted, NotFinished, StoreUnavailable, StoreConflict."""
        with pymongo.timeout(_SECONDS):
            for attempt in range(_ATTEMPTS):
                try:
                    self._service.delete(organization, key)
                except NotFound:
                    raise self._absent(organization, key) from None
                except StoreConflict:
                    if attempt == _ATTEMPTS - 1:
                        raise
                else:
                    return

    def _absent(self, organization: ObjectId, key: ObjectId) -> NotFound | NotFinished:
        """Why there is no such snapshot."""
        with pymongo.timeout(_SECONDS), store_errors():
            mine = {"_id": key, "organizationId": organization}
            entry = self._service.ledger.collection.find_one(mine, {"status": 1, "deletedAt": 1})
        if entry and entry["status"] == ACCEPTED:
            return NotFinished()
        return Deleted() if entry and entry.get("deletedAt") else NotFound("There is no such snapshot.")
