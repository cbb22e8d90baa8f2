"""Pure: a conversation in the neutral form → documents of the platform's collections.

Every `_id` follows from the organization and what the document is of, so that an import that runs again, or
twice at once, makes the same documents:

| document | `_id` is 12 bytes: SHA-256 over organization, kind and |
|---|---|
| contact | its e-mail in lower case, else its phone number, else the conversation's ref |
| user (the agent) | its e-mail in lower case; an agent without one makes no user |
| conversation | its ref |
| message | 9 bytes over the ref, then its index in 3: messages at equal times are read by `_id`, so in file order |
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
_INDEX_BYTES = 3  # a line of 64 MiB has under a million messages
_OTHER_FIELDS_BYTES = 1024


@dataclass(frozen=True)
class SourceDocuments:
    """The documents of one conversation, for one organization; `now` is the import's time.

    A conversation without messages counts as resolved at the time of its import.
    """

    organization_id: ObjectId
    conversation: Conversation
    now: datetime

    @cached_property
    def conversation_id(self) -> ObjectId:
        """The conversation's `_id`."""
        return ObjectId(self._digest("conversation", self.conversation.header.ref)[:12])

    @cached_property
    def content_hash(self) -> str:
        """Tells a repeated conversation from another one with the same ref; stored as `importHash`."""
        return self.conversation.content_hash()

    @cached_property
    def contact(self) -> Document:
        """The contact, as it is made if the organization has none with this e-mail."""
        person = self.conversation.contact or Person()
        return {
            "_id": ObjectId(self._digest("contact", *self.conversation.contact_key)[:12]),
            **self._person(person),
            **_given({"channelType": self.conversation.header.channel_type}),
            **_made_at(self.now),
        }

    @cached_property
    def user(self) -> Document | None:
        """The agent, as it is made if the organization has none with this e-mail."""
        agent = self.conversation.agent
        key = email_key(agent.email) if agent else None
        if agent is None or key is None:
            return None
        return {
            "_id": ObjectId(self._digest("user", key)[:12]),
            **self._person(agent),
            **_made_at(self.now),
        }

    def resolved(self, contact_id: ObjectId, user_id: ObjectId | None) -> Document:
        """Resolved at its last message; `importedResolvedAt` tells this closing from one that the platform made."""
        header = self.conversation.header
        times = [each.timestamp for each in self.conversation.messages] or [self.now]
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
        """The messages in file order, their text as given."""
        prefix = self._digest("message", self.conversation.header.ref)[: 12 - _INDEX_BYTES]
        return [
            self._message(ObjectId(prefix + index.to_bytes(_INDEX_BYTES, "big")), contact_id, each)
            for index, each in enumerate(self.conversation.messages)
        ]

    def check_size(self, at_most: int) -> None:
        """Raises InvalidLine if a document is larger than MongoDB takes; `at_most` is the line's length in bytes."""
        if at_most < MAX_DOCUMENT_BYTES - _OTHER_FIELDS_BYTES:
            return
        documents = {"contact": self.contact, "agent": self.user, "conversation": self.resolved(ObjectId(), ObjectId())}
        documents |= {f"messages[{index}]": each for index, each in enumerate(self.messages(ObjectId()))}
        for name, document in documents.items():
            if document and len(bson.encode(document)) > MAX_DOCUMENT_BYTES:
                raise InvalidLine(f"{name}: is larger than the 16 MiB of a document")

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
            **_made_at(message.timestamp),
        }

    def _person(self, person: Person) -> Document:
        return {
            "organizationId": self.organization_id,
            **_given({"firstName": person.first_name, "lastName": person.last_name}),
            **_given({"phoneNumber": person.phone_number, "email": person.email}),
        }

    def _digest(self, *parts: str) -> bytes:
        # JSON keeps the parts apart, whatever is in them.
        return hashlib.sha256(self.organization_id.binary + json.dumps(parts).encode()).digest()


def _given(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if value is not None}


def _made_at(moment: datetime) -> Document:
    return {"createdAt": moment, "updatedAt": moment, "__v": 0}
