"""The identifiers of a person: the texts by which an erasure finds the person's data."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from bson import ObjectId

_SHORTEST = 6
"""Minimum length of an address or number to search for. A shorter text would match almost anything."""
_PLACEHOLDER = re.compile(r"\[[A-Z_]+_\d+\]", re.ASCII)
_BODY = re.compile(rb'"body": ?"([A-Za-z0-9+/=]+)"')
"""The body of a Celery message, in base64."""


@dataclass(frozen=True)
class Identifiers:
    """Organization, contact, and the contact's e-mail addresses and phone numbers in the platform and in snapshots."""

    organization: ObjectId
    contact: ObjectId
    texts: tuple[str, ...]

    @classmethod
    def of(cls, organization: ObjectId, contact: ObjectId, texts: Iterable[Any]) -> Self:
        """Create identifiers. Texts that identify no one are left out: short ones, and placeholders (`[EMAIL_1]`)."""
        found = {text.strip() for text in texts if isinstance(text, str) and not _PLACEHOLDER.fullmatch(text.strip())}
        return cls(organization, contact, tuple(sorted(text for text in found if len(text) >= _SHORTEST)))

    @classmethod
    def read(cls, organization: ObjectId, fields: Mapping[str, Any]) -> Self:
        """Read identifiers from the fields that `as_fields` returns."""
        return cls(organization, fields["contact"], tuple(fields["texts"]))

    def as_fields(self) -> dict[str, Any]:
        """Return the fields that `read` reads again, for the checkpoint of an erasure."""
        return {"contact": self.contact, "texts": list(self.texts)}

    @cached_property
    def _needles(self) -> list[bytes]:
        """The addresses and numbers in lower case, encoded as in BSON and as in JSON."""
        plain = [text.lower() for text in self.texts]
        return sorted({form for text in plain for form in (text.encode(), json.dumps(text)[1:-1].lower().encode())})

    def names_contact(self, data: bytes | memoryview) -> bool:
        """Whether BSON or text contains the contact's id, as bytes or as hex digits."""
        data = bytes(data)  # PyMongo returns a large document as a memoryview
        return self.contact.binary in data or str(self.contact).encode() in data.lower()

    def mentions(self, data: bytes | memoryview) -> bool:
        """Whether BSON or text contains an e-mail address or phone number of the person."""
        lower = bytes(data).lower()
        return any(needle in lower for needle in self._needles)

    def is_persons(self, item: bytes) -> bool:
        """Whether an item in Redis names the contact, or the organization together with an address or number."""
        whole = item + b"".join(_decoded(body) for body in _BODY.findall(item))
        return self.names_contact(whole) or (str(self.organization).encode() in whole.lower() and self.mentions(whole))


def _decoded(body: bytes) -> bytes:
    try:
        return base64.b64decode(body)
    except (ValueError, binascii.Error):
        return b""
