"""Integration keys: `user_` and 43 characters, of which only the SHA-256 is kept.

A key has 256 random bits, so a plain hash is as good as a slow one.
"""

import hashlib
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from worker.api.responses import TokenExpired, TokenInvalid
from worker.api.tokens import Caller
from worker.clock import as_utc
from worker.errors import NotFound
from worker.stores.connections import Connections, Document, store_errors

PREFIX = "user_"
_SHOWN = len(PREFIX) + 6
_FRESH = 5.0
"""Seconds that a key found valid is taken for valid: so long a revoked one may still be used."""
_REMEMBERED = 1000


class Keys:
    """The collection of integration keys."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: dict[str, tuple[float, Caller]] = {}

    @property
    def collection(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.keys_collection]

    def create(self, caller: Caller, expires_at: datetime | None, name: str | None) -> tuple[str, Document]:
        """A new key, to be shown this once, and what is kept of it."""
        key = PREFIX + secrets.token_urlsafe(32)
        document = {
            "_id": ObjectId(),
            "hash": _hash(key),
            "begins": key[:_SHOWN],
            "organizationId": caller.organization,
            "userId": caller.user,
            "accessRole": caller.role,
            "operator": caller.operator,
            "name": name,
            "createdAt": self._connections.clock.now(),
            "expiresAt": expires_at,
            "revokedAt": None,
        }
        with store_errors():
            self.collection.insert_one(document)
        return key, document

    def list(self, organization: ObjectId | None = None) -> list[Document]:
        """Newest first, without their hashes."""
        condition = {} if organization is None else {"organizationId": organization}
        with store_errors():
            return list(self.collection.find(condition, {"hash": 0}).sort("_id", -1))

    def revoke(self, key: ObjectId) -> Mapping[str, Any]:
        """It is no longer valid, within seconds. Raises NotFound."""
        change = [{"$set": {"revokedAt": {"$ifNull": ["$revokedAt", self._connections.clock.now()]}}}]
        with store_errors():
            found = self.collection.find_one_and_update({"_id": key}, change, {"hash": 0}, return_document=True)
        if found is None:
            raise NotFound("There is no such key.")
        return found

    def known(self, key: str) -> Caller | None:
        """The caller of a key that was found valid a moment ago."""
        until, caller = self._known.get(key, (0.0, None))
        return caller if time.monotonic() < until else None

    def find(self, key: str) -> Caller:
        """Raises TokenInvalid or TokenExpired, StoreUnavailable."""
        with store_errors():
            found = self.collection.find_one({"hash": _hash(key)})
        if found is None or found["revokedAt"] is not None:
            raise TokenInvalid
        left = _FRESH
        if (expires_at := found["expiresAt"]) is not None:
            left = min(left, (as_utc(expires_at) - self._connections.clock.now()).total_seconds())
        if left <= 0:
            raise TokenExpired
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        operator = found.get("operator") is True
        caller = Caller(found["organizationId"], found["userId"], found["accessRole"], operator)
        self._known[key] = (time.monotonic() + left, caller)
        return caller


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
