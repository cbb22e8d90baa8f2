"""Edits and deletes snapshots, for PATCH and DELETE."""

from typing import Any

import pymongo
from bson import ObjectId
from pydantic import Field

from worker.api.responses import NotFinished, encode
from worker.domain.ledger_entry import ACCEPTED
from worker.domain.requests import CamelModel, Label, Notes, Tags
from worker.errors import InvalidRequest, NotFound, SnapshotDeleted, StoreConflict
from worker.service import Service
from worker.settings import Settings
from worker.stores.connections import Document, store_errors

_MAX_SECONDS = 5
_ATTEMPTS = 3
_CAPTURED = frozenset(
    {
        *("_id", "id", "organizationId", "userId", "contactId", "customerName", "customerPhone", "customerEmail"),
        *("messages", "messageIds", "messageCount", "snapshotDate", "conversationStartDate", "conversationEndDate"),
        *(
            "requestId",
            "conversationId",
            "trigger",
            "supersedes",
            "contentHash",
            "omittedMessageCount",
            "redaction",
            "erasedMentions",
            "createdAt",
            "updatedAt",
            "__v",
        ),
    }
)


class SnapshotEdit(CamelModel):
    """The body of `PATCH /api/training/snapshots/{id}`: the fields to change. Those that are absent stay as they are.

    Null clears `notes`, `quality` or `category`.
    """

    notes: Notes | None = None
    tags: Tags = Field(default_factory=list)
    quality: Label | None = None
    category: Label | None = None
    is_archived: bool = False

    @classmethod
    def changes(cls, data: Any, limits: Settings) -> Document:
        """Validate the given fields and return them as MongoDB stores them. Raises InvalidRequest."""
        if isinstance(data, dict) and (captured := sorted(_CAPTURED & data.keys())):
            message = "cannot be changed: captured messages are immutable, and so is everything captured with them"
            raise InvalidRequest([{"field": name, "message": message} for name in captured])
        edit = cls.read(data, limits)
        if not edit.model_fields_set:
            allowed = ", ".join(str(field.alias) for field in cls.model_fields.values())
            message = f"should have at least one of {allowed}, but is empty"
            raise InvalidRequest([{"field": "body", "message": message}])
        return edit.model_dump(by_alias=True, exclude_unset=True)


class Editor:
    """Changes the snapshots of one organization. Its methods block."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def patch(self, organization: ObjectId, key: ObjectId, changes: Document) -> bytes:
        """Change editable fields of a snapshot.

        Args:
            organization: The caller's organization.
            key: The id of the snapshot.
            changes: The new values, as `SnapshotEdit.changes` returns them.

        Returns:
            The new document as JSON.

        Raises:
            NotFound: The organization has no such snapshot.
            SnapshotDeleted: It was deleted.
            NotFinished: Its request has no outcome yet; try again later.
            StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
        """
        one = {"_id": key, "organizationId": organization}
        with pymongo.timeout(_MAX_SECONDS), store_errors():
            change = {"$set": {**changes, "updatedAt": self._service.clock.now()}}
            document = self._service.snapshots.collection.find_one_and_update(one, change, return_document=True)
        if document is None:
            raise self._absent(organization, key)
        return encode(document)

    def delete(self, organization: ObjectId, key: ObjectId) -> None:
        """Delete a snapshot. Raises NotFound, SnapshotDeleted, NotFinished, StoreUnavailable, StoreConflict."""
        with pymongo.timeout(_MAX_SECONDS):
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
        """Return the error that explains why there is no such snapshot."""
        with pymongo.timeout(_MAX_SECONDS), store_errors():
            one = {"_id": key, "organizationId": organization}
            entry = self._service.ledger.collection.find_one(one, {"status": 1, "deletedAt": 1})
        if entry and entry["status"] == ACCEPTED:
            return NotFinished()
        return SnapshotDeleted() if entry and entry.get("deletedAt") else NotFound("Snapshot not found.")
