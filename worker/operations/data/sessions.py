"""The sessions of browsers.

The cookie holds a random secret. The database holds the token of the login, or the caller of a login link, encrypted
with that secret. Neither is of use without the other. Logging out deletes the document, so every API process refuses
the cookie from then on.
"""

import hashlib
import json
import re
from datetime import timedelta

from bson import ObjectId
from cryptography.fernet import Fernet, InvalidToken
from pymongo.collection import Collection

from worker.api.tokens import Caller
from worker.stores.connections import Connections, Document, store_errors

LIFETIME = timedelta(hours=12)
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}=", re.ASCII)
"""32 random bytes in base64: Fernet's keys. https://github.com/fernet/spec/blob/master/Spec.md"""


class Sessions:
    """Opens, finds and closes sessions. They are stored next to the checkpoints; an index removes expired ones."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def _collection(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.state_collection]

    def open(self, proof: str | Caller) -> str:
        """Store a session of a token or a caller, and return its secret. Raises StoreUnavailable, StoreConflict."""
        secret = Fernet.generate_key()
        name, value = ("caller", _to_json(proof)) if isinstance(proof, Caller) else ("token", proof)
        session = {
            "_id": _id_of(secret),
            name: Fernet(secret).encrypt(value.encode()),
            "expiresAt": self._connections.clock.now() + LIFETIME,
        }
        with store_errors():
            self._collection.insert_one(session)
        return secret.decode()

    def find(self, secret: str) -> str | Caller | None:
        """Return the token or the caller of a session, or None if it has ended.

        Raises StoreUnavailable, StoreConflict.
        """
        if not _SECRET.fullmatch(secret):
            return None
        with store_errors():
            session = self._collection.find_one({"_id": _id_of(secret.encode())})
        if session is None or session["expiresAt"] <= self._connections.clock.now():
            return None
        try:
            if "caller" in session:
                return _from_json(Fernet(secret).decrypt(session["caller"]).decode())
            return Fernet(secret).decrypt(session["token"]).decode()
        except InvalidToken:
            return None

    def close(self, secret: str) -> None:
        """End a session. Raises StoreUnavailable, StoreConflict."""
        with store_errors():
            self._collection.delete_one({"_id": _id_of(secret.encode())})


def _to_json(caller: Caller) -> str:
    return json.dumps([str(caller.organization), str(caller.user), caller.role, caller.operator])


def _from_json(text: str) -> Caller:
    organization, user, role, operator = json.loads(text)
    return Caller(ObjectId(organization), ObjectId(user), role, operator)


def _id_of(secret: bytes) -> str:
    return f"session:{hashlib.sha256(secret).hexdigest()}"
