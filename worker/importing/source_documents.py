"""Builds the documents of the platform's collections from a conversation in the neutral form. Pure.

Every `_id` is derived from the organization and the document's identity, so that an import that is repeated, or runs
twice at the same time, builds the same documents:

| document | `_id`: 12 bytes of the SHA-256 of the organization, the kind and |
|---|---|
| contact | its e-mail in lower case, else its phone number, else the conversation's ref |
| user (the agent) | its e-mail in lower case; an agent without one becomes no user |
| conversation | its ref |
| message | the ref (9 bytes), then its index (3 bytes): messages with equal times are read by `_id`, in file order |
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import bson
from bson import ObjectId

from worker.importing.neutral_form import Conversation, InvalidLine, Message, Person, email_key

Document = dict[str, Any]

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024  # https://www.mongodb.com/docs/manual/reference/limits/
_INDEX_BYTES = 3  # a line of 64 MiB has fewer than a million messages
_OTHER_FIELDS_BYTES = 1024


@dataclass(frozen=True)
class SourceDocuments:
    """The documents of one conversation of an organization. `now` is the time of the import.

    A conversation without messages counts as resolved at that time.
    """

    organization_id: ObjectId
    conversation: Conversation
    now: datetime

    @cached_property
    def conversation_id(self) -> ObjectId:
        """The `_id` of the conversation."""
        return ObjectId(self._digest("conversation", self.conversation.header.ref)[:12])

    @cached_property
    def content_hash(self) -> str:
        """A hash that distinguishes a repeated conversation from another one with the same ref.

        Stored as `importHash`.
        """
        return self.conversation.content_hash()

    @cached_property
    def contact(self) -> Document:
        """The contact to insert if the organization has none with this e-mail."""
        person = self.conversation.contact or Person()
        return {
            "_id": ObjectId(self._digest("contact", *self.conversation.contact_key)[:12]),
            **self._person(person),
            **_given({"channelType": self.conversation.header.channel_type}),
            **_timestamps(self.now),
        }

    @cached_property
    def user(self) -> Document | None:
        """The agent's user to insert if the organization has none with this e-mail."""
        agent = self.conversation.agent
        key = email_key(agent.email) if agent else None
        if agent is None or key is None:
            return None
        return {
            "_id": ObjectId(self._digest("user", key)[:12]),
            **self._person(agent),
            **_timestamps(self.now),
        }

    def resolved(self, contact_id: ObjectId, user_id: ObjectId | None) -> Document:
        """Return the conversation, resolved at its last message.

        `importedResolvedAt` distinguishes this closing from one by the platform.
        """
        header = self.conversation.header
        times = [message.timestamp for message in self.conversation.messages] or [self.now]
        return {
            "_id": self.conversation_id,
            "organizationId": self.organization_id,
            "contactId": contact_id,
            "ref": header.ref,
            **_given({"channelType": header.channel_type, "language": header.language, "status": header.status}),
            "isResolved": True,
            "resolvedAt": max(times),
            "importedResolvedAt": max(times),
            **_given({"resolvedBy": user_id}),
            "importHash": self.content_hash,
            "createdAt": min(times),
            "updatedAt": max(times),
            "__v": 0,
        }

    def messages(self, contact_id: ObjectId) -> list[Document]:
        """Return the messages in file order, with their text unchanged."""
        prefix = self._digest("message", self.conversation.header.ref)[: 12 - _INDEX_BYTES]
        return [
            self._message(ObjectId(prefix + index.to_bytes(_INDEX_BYTES, "big")), contact_id, message)
            for index, message in enumerate(self.conversation.messages)
        ]

    def check_size(self, at_most: int) -> None:
        """Raise InvalidLine if a document exceeds MongoDB's limit. `at_most` is the length of the line in bytes."""
        if at_most < MAX_DOCUMENT_BYTES - _OTHER_FIELDS_BYTES:
            return
        documents = {"contact": self.contact, "agent": self.user, "conversation": self.resolved(ObjectId(), ObjectId())}
        documents |= {f"messages[{index}]": message for index, message in enumerate(self.messages(ObjectId()))}
        for name, document in documents.items():
            if document and len(bson.encode(document)) > MAX_DOCUMENT_BYTES:
                raise InvalidLine(f"{name}: should be smaller than 16 MiB, MongoDB's limit for a document")

    def _message(self, message_id: ObjectId, contact_id: ObjectId, message: Message) -> Document:
        return {
            "_id": message_id,
            "organizationId": self.organization_id,
            "conversationId": self.conversation_id,
            "contactId": contact_id,
            "content": message.content,
            "sender": message.sender,
            **_given({"senderType": message.sender_type, "speaker": message.speaker}),
            "timestamp": message.timestamp,
            **_timestamps(message.timestamp),
        }

    def _person(self, person: Person) -> Document:
        return {
            "organizationId": self.organization_id,
            **_given({"firstName": person.first_name, "lastName": person.last_name}),
            **_given({"phoneNumber": person.phone_number, "email": person.email}),
        }

    def _digest(self, *parts: str) -> bytes:
        # JSON separates the parts unambiguously, whatever they contain.
        return hashlib.sha256(self.organization_id.binary + json.dumps(parts).encode()).digest()


def _given(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if value is not None}


def _timestamps(moment: datetime) -> Document:
    return {"createdAt": moment, "updatedAt": moment, "__v": 0}
