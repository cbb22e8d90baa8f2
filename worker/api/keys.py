"""Integration keys: `user_` and 43 characters. Only their SHA-256 is stored.

A key has 256 random bits, so a fast hash is as safe as a slow one.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.collection import Collection

from worker.api.responses import TokenExpired, TokenInvalid
from worker.api.tokens import Caller
from worker.clock import as_utc
from worker.errors import NotFound
from worker.stores.connections import Connections, Document, store_errors

PREFIX = "user_"
_FORMAT = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
_SHOWN = len(PREFIX) + 6
_FIND_SECONDS = 5.0
_FRESH_SECONDS = 5.0
"""How long a valid key is not looked up again, in seconds. A revoked key can still be used in that time."""
_MAX_REMEMBERED = 1000
_LIST_SECONDS = 5.0
"""How long the list of stored keys is used, in seconds."""
_MAX_LISTED = 100_000
"""Maximum number of keys in the list, the newest ones. Their hashes take 12 MB."""


class Keys:
    """The collection of integration keys. Its methods block, except for `known` and `is_listed`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._remembered: dict[str, tuple[float, Caller]] = {}
        self._listed: frozenset[str] = frozenset()
        """The hashes of the stored keys when the list was read last."""
        self._list_until = 0.0

    @property
    def collection(self) -> Collection[Document]:
        """The collection `snapshotkeys`."""
        return self._connections.database[self._connections.settings.keys_collection]

    def create(self, caller: Caller, expires_at: datetime | None, name: str | None) -> tuple[str, Document]:
        """Create an integration key.

        Args:
            caller: The organization, user and role on whose behalf the key acts.
            expires_at: When the key stops working, aware. None: never.
            name: What the key is for, as `snapshots keys list` shows it.

        Returns:
            The key, which can be shown only now because only its hash is stored; and the stored document.
        """
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
        """List keys, newest first, without their hashes."""
        condition = {} if organization is None else {"organizationId": organization}
        with store_errors():
            return list(self.collection.find(condition, {"hash": 0}).sort("_id", -1))

    def revoke(self, key: ObjectId) -> Mapping[str, Any]:
        """Revoke a key; return its document. It stops working within 5 seconds. Raises NotFound."""
        change = [{"$set": {"revokedAt": {"$ifNull": ["$revokedAt", self._connections.clock.now()]}}}]
        with store_errors():
            document = self.collection.find_one_and_update({"_id": key}, change, {"hash": 0}, return_document=True)
        if document is None:
            raise NotFound("Key not found. `snapshots keys list` shows the ids.")
        return document

    def known(self, key: str) -> Caller | None:
        """Return the caller of a key that was found valid a moment ago, or None.

        Raises TokenInvalid if it is not a key.
        """
        if not _FORMAT.fullmatch(key):
            raise TokenInvalid(f"An integration key should be {PREFIX} followed by 43 letters, digits, - or _.")
        until, caller = self._remembered.get(key, (0.0, None))
        return caller if time.monotonic() < until else None

    @property
    def has_old_list(self) -> bool:
        """Whether the list of stored keys has to be read again."""
        return time.monotonic() >= self._list_until

    def read_list(self) -> None:
        """Read the hashes of the stored keys. Raises StoreUnavailable, StoreConflict."""
        self._list_until = time.monotonic() + _LIST_SECONDS  # also after an error, so that not every request tries it
        with store_errors(), pymongo.timeout(_FIND_SECONDS):
            newest = self.collection.find({"revokedAt": None}, {"_id": 0, "hash": 1}).sort("_id", -1)
            self._listed = frozenset(each["hash"] for each in newest.limit(_MAX_LISTED))

    def is_listed(self, key: str) -> bool:
        """Return whether the key was stored when the list was read last."""
        return _hash(key) in self._listed

    def find(self, key: str) -> Caller:
        """Look up a key. Raises TokenInvalid, TokenExpired, StoreUnavailable."""
        with store_errors(), pymongo.timeout(_FIND_SECONDS):
            document = self.collection.find_one({"hash": _hash(key)})
        self._remembered.pop(key, None)
        if document is None:
            raise TokenInvalid("The integration key is unknown. `snapshots keys create` makes a new one.")
        if document["revokedAt"] is not None:
            raise TokenInvalid("The integration key was revoked. `snapshots keys create` makes a new one.")
        seconds = _FRESH_SECONDS
        if (expires_at := document["expiresAt"]) is not None:
            seconds = min(seconds, (as_utc(expires_at) - self._connections.clock.now()).total_seconds())
        if seconds <= 0:
            raise TokenExpired("The integration key has expired. `snapshots keys create` makes a new one.")
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        operator = document.get("operator") is True
        caller = Caller(document["organizationId"], document["userId"], document["accessRole"], operator)
        self._remembered[key] = (time.monotonic() + seconds, caller)
        return caller


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
