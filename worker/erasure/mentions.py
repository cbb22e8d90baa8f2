"""Replaces a person's e-mail addresses and phone numbers in other people's snapshots and notes, if requested.

Documents are found in the same way as in the last step of an erasure: by an address, or by a number in any spelling.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.domain.assembly import hash_of_messages
from worker.domain.ledger_entry import FINAL_STATES
from worker.erasure.identifiers import MIN_DIGITS, Identifiers
from worker.erasure.pages import Pages, of_people
from worker.jobs.slices import Slice
from worker.redaction.engine import DefaultEngine
from worker.redaction.kinds import Hints, Span
from worker.redaction.phone import digits_of, normal_form, region_of
from worker.redaction.redactor import Redactor
from worker.redaction.snapshot import redact_snapshot
from worker.service import Service
from worker.stores.connections import PLAIN, Document

_KINDS = ("email", "phone")
_OF_CUSTOMER = ("customerPhone", "customerEmail")


class PersonEngine:
    """Finds the addresses and numbers of one person only: an engine of `worker.redaction`."""

    def __init__(self, texts: Collection[str]) -> None:
        self.regions = tuple(sorted({region for text in texts if (region := region_of(text))}))
        self._default = DefaultEngine()
        self._values: dict[tuple[str, str], str] = {}
        national = [text for text in texts if "@" not in text and region_of(text) is None]
        numbers = {each for text in national for each in digits_of(text)}
        self._tails = tuple(each for each in numbers if len(each) >= MIN_DIGITS)
        patterns = []
        for text in texts:
            kind = "email" if "@" in text else "phone"
            self._values[kind, self._normal(kind, text)] = text
            # Does not match within another address or a longer number.
            before, after = (r"(?<![\w.+-])", r"(?![\w-]|\.\w)") if kind == "email" else (r"(?<!\d)", r"(?!\d)")
            patterns.append((kind, re.compile(f"{before}{re.escape(text)}{after}", re.IGNORECASE)))
        self._patterns = patterns

    def find(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
        """Find the person's addresses and numbers. See `worker.redaction.engine.Engine.find`."""
        for kind, pattern in self._patterns:
            for found in pattern.finditer(text):
                yield Span(found.start(), found.end(), kind, self._normal(kind, found[0]))
        for span in self._default.find(text, kinds, hints):
            if self._is_value(span.kind, span.value):
                yield span

    def is_persons(self, kind: str, text: str) -> bool:
        """Return whether a text is an address or number of the person. `kind`: `email` or `phone`."""
        return self._is_value(kind, self._normal(kind, text.strip()))

    def _is_value(self, kind: str, value: str) -> bool:
        """Return whether a normal form is the person's; a number may have a country code that the platform's lacks."""
        return (kind, value) in self._values or (kind == "phone" and value.endswith(self._tails))

    def _normal(self, kind: str, text: str) -> str:
        return text.casefold() if kind == "email" else normal_form(text, self.regions)


class Mentions:
    """Redacts the documents of other people in the person's organization.

    Raises StoreUnavailable, StoreConflict, LeaseLost.
    """

    def __init__(self, service: Service, job_slice: Slice, person: Identifiers) -> None:
        self._service = service
        self._job_slice = job_slice
        self._person = person
        self._engine = PersonEngine(person.texts)
        self._redactor = Redactor(_KINDS, self._engine.regions, self._engine)
        conditions = of_people(service.settings, person, FINAL_STATES)
        self._pages = Pages(service, job_slice, "mention", conditions)

    def redact(self) -> bool:
        """Process the next documents; return whether all documents of the organization were read.

        The checkpoint keeps the ids of changed snapshots for the export files (`mentioned`), and counts of documents by
        collection (`redacted`).
        """
        return self._pages.visit(self._look_at)

    def _look_at(self, name: str, document: Any) -> None:
        if self._person.mentions(document.raw):
            self._redact_one(name, document["_id"])

    def _redact_one(self, name: str, key: Any) -> None:
        """Redact a document in one transaction with the checkpoint. It is read again: it may have been edited."""
        state = self._job_slice.checkpoint
        of_snapshots = name == self._service.settings.snapshots_collection
        with self._service.connections.transaction() as session:
            collection = self._service.connections.database[name].with_options(codec_options=PLAIN)
            document = collection.find_one({"_id": key}, session=session)
            change = (self._of_snapshot if of_snapshots else self._of_entry)(document) if document else {}
            if not change:
                return
            collection.update_one({"_id": key}, {"$set": change}, session=session)
            if of_snapshots and document and "contentHash" in document:
                self._hash_again(key, session)
            if of_snapshots and isinstance(key, ObjectId):
                state["mentioned"] = state.get("mentioned", b"") + key.binary
            state["redacted"] = dict(Counter(state.get("redacted", {})) + Counter([name]))
            self._job_slice.save(session)

    def _of_snapshot(self, document: Document) -> Document:
        """Return the changed fields of a snapshot. Only texts change, so everything else keeps its exact bytes."""
        messages = document.get("messages")
        listed = messages if isinstance(messages, list) and all(isinstance(each, Mapping) for each in messages) else []
        fields = {name: value for name, value in document.items() if name not in _OF_CUSTOMER}
        for name, kind in zip(_OF_CUSTOMER, ("phone", "email"), strict=True):
            value = document.get(name)
            if isinstance(value, str) and self._engine.is_persons(kind, value):
                fields[name] = value  # it is replaced as a whole
        result = redact_snapshot(self._redactor, listed, fields)
        change = dict(result.fields)
        for number, message in result.messages.items():
            changed = {name for name, value in message.items() if value is not listed[number].get(name)}
            change |= {f"messages.{number}.{name}": message[name] for name in changed}
        if not change:
            return {}
        now = self._service.clock.now()
        before = document.get("erasedMentions")
        counted = before.get("counts") if isinstance(before, Mapping) else None
        items = counted.items() if isinstance(counted, Mapping) else ()
        counts = Counter({kind: count for kind, count in items if isinstance(count, int)}) + Counter(result.counts)
        return {**change, "updatedAt": now, "erasedMentions": {"at": now, "counts": dict(counts)}}

    def _of_entry(self, entry: Document) -> Document:
        """Return the changed notes of a finished request.

        Its labels stay, because its event contains them and must not change.
        """
        notes = entry.get("notes")
        if entry.get("status") not in FINAL_STATES or not isinstance(notes, str):
            return {}
        return dict(redact_snapshot(self._redactor, [], {"notes": notes}).fields)

    def _hash_again(self, key: Any, session: ClientSession) -> None:
        name = self._service.settings.snapshots_collection
        stored = self._service.connections.raw_database[name].find_one({"_id": key}, {"messages": 1}, session=session)
        if stored is not None:
            change = {"contentHash": hash_of_messages(stored["messages"])}
            self._service.snapshots.collection.update_one({"_id": key}, {"$set": change}, session=session)
