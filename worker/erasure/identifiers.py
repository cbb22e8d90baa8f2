"""The identifiers by which a person's data is found, while an erasure is in progress."""

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
"""Characters from which on an e-mail address or a phone number is searched for: a shorter one is in anything."""
_PLACEHOLDER = re.compile(r"\[[A-Z_]+_\d+\]", re.ASCII)
_BODY = re.compile(rb'"body": ?"([A-Za-z0-9+/=]+)"')
"""The body of a Celery message, in base64."""


@dataclass(frozen=True)
class Identifiers:
    """Organization, contact, and the addresses and numbers that the platform and the snapshots have of the contact."""

    organization: ObjectId
    contact: ObjectId
    texts: tuple[str, ...]

    @classmethod
    def of(cls, organization: ObjectId, contact: ObjectId, texts: Iterable[Any]) -> Self:
        """Leave out what identifies nobody: short texts, and placeholders of redaction such as `[EMAIL_1]`."""
        found = {text.strip() for text in texts if isinstance(text, str) and not _PLACEHOLDER.fullmatch(text.strip())}
        return cls(organization, contact, tuple(sorted(text for text in found if len(text) >= _SHORTEST)))

    @classmethod
    def read(cls, organization: ObjectId, fields: Mapping[str, Any]) -> Self:
        """Read what `as_fields` returned."""
        return cls(organization, fields["contact"], tuple(fields["texts"]))

    def as_fields(self) -> dict[str, Any]:
        return {"contact": self.contact, "texts": list(self.texts)}

    @cached_property
    def _needles(self) -> list[bytes]:
        """The texts in lower case, as they are in BSON and in JSON."""
        plain = [text.lower() for text in self.texts]
        return sorted({form for text in plain for form in (text.encode(), json.dumps(text)[1:-1].lower().encode())})

    def names_contact(self, data: bytes) -> bool:
        """Whether BSON or text contains the contact's id."""
        return self.contact.binary in data or str(self.contact).encode() in data.lower()

    def mentions(self, data: bytes) -> bool:
        """Whether BSON or text contains an address or a number of the person."""
        lower = data.lower()
        return any(needle in lower for needle in self._needles)

    def is_persons(self, item: bytes) -> bool:
        """Whether an item in Redis is about the person: it names the contact, or the organization and an address."""
        whole = item + b"".join(_decoded(body) for body in _BODY.findall(item))
        return self.names_contact(whole) or (str(self.organization).encode() in whole.lower() and self.mentions(whole))


def _decoded(body: bytes) -> bytes:
    try:
        return base64.b64decode(body)
    except (ValueError, binascii.Error):
        return b""
