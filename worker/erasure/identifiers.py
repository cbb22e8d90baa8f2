"""The identifiers of a person: the ids, addresses and numbers that an erasure searches for."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from bson import ObjectId

from worker.redaction.phone import digits_of

_SHORTEST = 6
"""Minimum length of an address or number to search for. A shorter text would match almost anything."""
MIN_DIGITS = 8
"""Minimum number of digits of a phone number that is searched for without regard to separators."""
_SEPARATORS = b" ().-/_"
_OTHER_SEPARATOR = re.compile(
    rb"\xc2[\xa0\xad]|\xe2\x80[\x80-\x95\xaa-\xaf]|\xe2\x81[\x9f-\xa9]|\xe2\x88\x92|\xe3\x80\x80"
)
"""Spaces, hyphens and invisible characters beyond ASCII, in UTF-8."""
_DIGIT = re.compile(rb"\xd9[\xa0-\xa9]|\xdb[\xb0-\xb9]|\xef\xbc[\x90-\x99]")
"""Arabic, Persian and full-width digits in UTF-8, whose last four bits are the digit."""
_PLACEHOLDER = re.compile(r"\[[A-Z_]+_\d+\]", re.ASCII)
_BODY = re.compile(rb'"body": ?"([A-Za-z0-9+/]+={0,2})')
"""The body of a Celery message, in base64. The end of a long one may have been cut off when it was rejected."""


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
        """The addresses and numbers, encoded as in BSON and as in JSON.

        Only ASCII letters are in lower case, because `bytes.lower` changes no others. Those are listed in both cases.
        """
        written = {form for text in self.texts for form in (text, text.lower(), text.upper())}
        encoded = (form for text in written for form in (text.encode(), json.dumps(text)[1:-1].encode()))
        return sorted({form.lower() for form in encoded})

    @cached_property
    def numbers(self) -> list[str]:
        """The phone numbers as digits, with and without the country code."""
        numbers = {each for text in self.texts if "@" not in text for each in digits_of(text)}
        return sorted(each for each in numbers if len(each) >= MIN_DIGITS)

    def names_contact(self, data: bytes | memoryview) -> bool:
        """Return whether BSON or text contains the contact's id, as bytes or as hex digits."""
        data = bytes(data)  # PyMongo returns a large document as a memoryview
        return self.contact.binary in data or str(self.contact).encode() in data.lower()

    def mentions(self, data: bytes | memoryview) -> bool:
        """Return whether BSON or text contains an e-mail address of the person, or a phone number in any spelling."""
        lower = bytes(data).lower()
        if self._is_in(lower):
            return True
        if not self.numbers:
            return False
        digits = lower.translate(None, _SEPARATORS)
        if not digits.isascii():
            digits = _DIGIT.sub(_as_ascii, _OTHER_SEPARATOR.sub(b"", digits))
        return any(each.encode() in digits for each in self.numbers)

    def _is_in(self, lower: bytes) -> bool:
        return any(needle in lower for needle in self._needles)

    def is_persons(self, item: bytes) -> bool:
        """Return whether an item in Redis names the contact, or the organization together with an address or number."""
        whole = _with_bodies(item)
        return self.names_contact(whole) or (
            str(self.organization).encode() in whole.lower() and self._is_in(whole.lower())
        )


def _as_ascii(found: re.Match[bytes]) -> bytes:
    return bytes([ord("0") + (found[0][-1] & 15)])


def _with_bodies(item: bytes) -> bytes:
    """Return an item together with the bodies of the Celery messages in it.

    A message is searched without backslashes: some producers escape slashes, and in a rejected entry a message is a
    text, whose quotes are escaped. The body of a carrier (`worker.celery_support.payloads`) is a message itself.
    """
    bodies = _BODY.findall(item.replace(b"\\", b""))
    return item + b"".join(_with_bodies(base64.b64decode(body[: len(body) // 4 * 4])) for body in bodies)
