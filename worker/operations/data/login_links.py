"""Links that log a browser in to the operations pages, once.

A link holds a random code. The database holds only the code's hash, whom the link logs in, and until when it works.
Used and expired links are kept for a day, so that the page can say which is the case.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo.collection import Collection

from worker.api.responses import HttpError
from worker.api.tokens import Caller
from worker.stores.connections import Connections, Document, store_errors

PATH = "/operations/login/once"
VALID_FOR = timedelta(minutes=10)
_KEPT_FOR = timedelta(days=1)
_CODE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""The form of a code: 32 random bytes in URL-safe base64."""


class LinkNotValid(HttpError):
    """The login link is not valid. Print a new one with `snapshots login`."""

    code = "login_link_not_valid"
    status = 410


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A new link. `path` is appended to the address at which the browser reaches the API."""

    path: str
    valid_until: datetime


class LoginLinks:
    """Creates, shows and uses the links. They are stored next to the sessions; an index removes old ones."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def _collection(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.state_collection]

    def create(self, caller: Caller) -> LoginLink:
        """Store and return a link for this caller. Raises StoreUnavailable, StoreConflict."""
        code = secrets.token_urlsafe(32)
        now = self._connections.clock.now()
        valid_until = now + VALID_FOR
        link = {
            "_id": _id_of(code),
            "organizationId": caller.organization,
            "userId": caller.user,
            "accessRole": caller.role,
            "operator": caller.operator,
            "validUntil": valid_until,
            "usedAt": None,
            "expiresAt": now + _KEPT_FOR,
        }
        with store_errors():
            self._collection.insert_one(link)
        return LoginLink(f"{PATH}?code={code}", valid_until)

    def find(self, code: str) -> Caller:
        """Return the caller whom a valid link logs in, without using it.

        Raises LinkNotValid, StoreUnavailable, StoreConflict.
        """
        link = self._read(code)
        self._check(link, self._connections.clock.now())
        return _caller_of(link)

    def use(self, code: str) -> Caller:
        """Use a link, after which it is not valid any more; return its caller.

        Raises LinkNotValid, StoreUnavailable, StoreConflict.
        """
        now = self._connections.clock.now()
        valid = {"_id": _id_of(code), "usedAt": None, "validUntil": {"$gt": now}}
        with store_errors():
            link = self._collection.find_one_and_update(valid, {"$set": {"usedAt": now}}) if _is_code(code) else None
        if link is None:
            self._check(self._read(code), now)
            raise LinkNotValid
        return _caller_of(link)

    def _read(self, code: str) -> Document:
        with store_errors():
            link = self._collection.find_one({"_id": _id_of(code)}) if _is_code(code) else None
        if link is None:
            raise LinkNotValid("This login link is unknown. Print a new one with `snapshots login`.")
        return link

    def _check(self, link: Document, now: datetime) -> None:
        if link["usedAt"] is not None:
            raise LinkNotValid(
                f"This login link was already used, at {link['usedAt']:%H:%M} UTC. It works once: print a new one with "
                "`snapshots login`. If it was not you, look for `operations_login` in the API's log."
            )
        if link["validUntil"] <= now:
            raise LinkNotValid(
                f"This login link expired at {link['validUntil']:%H:%M} UTC. Print a new one with `snapshots login`."
            )


def _is_code(code: str) -> bool:
    return _CODE.fullmatch(code) is not None


def _id_of(code: str) -> str:
    return f"login:{hashlib.sha256(code.encode()).hexdigest()}"


def _caller_of(link: Document) -> Caller:
    return Caller(link["organizationId"], link["userId"], link["accessRole"], link["operator"] is True)
