"""A platform whose collections and fields have other names, and whose values have to be translated."""

from datetime import timedelta
from typing import Any

from bson import ObjectId

from support.ledger import START
from worker.domain.requests import SnapshotRequest
from worker.runs.run import Run
from worker.service import NewRequest, Receipt, Service

NAMES = {
    "messages_collection": "chat_lines",
    "conversations_collection": "chats",
    "contacts_collection": "customers",
    "organization_field": "tenant.ref",
    "message_contact_field": "customer",
    "message_conversation_field": "chatId",
    "message_text_field": "content.body",
    "message_timestamp_field": "sentAt",
    "message_sender_field": "author.kind",
    "message_sender_values": "customer=contact,agent=user,bot=user",
    "message_sender_type_field": "author.kind",
    "message_sender_type_values": "customer=CONTACT,agent=HUMAN,bot=AI",
    "message_deleted_field": "deletedAt",
    "message_internal_field": "meta.internal",
    "conversation_contact_field": "customerRef",
    "conversation_resolved_field": "state.status",
    "conversation_resolved_values": "closed,solved",
    "conversation_resolved_at_field": "state.closedAt",
    "conversation_resolved_by_field": "state.closedBy",
    "contact_first_name_field": "name.given",
    "contact_last_name_field": "name.family",
    "contact_phone_field": "mobile",
    "contact_email_field": "mail",
    "user_first_name_field": "displayName",
}
AUTHORS = ("customer", "agent", "bot")


class Odd:
    """One organization of such a platform, with a contact and six messages, of which two are omitted."""

    def __init__(self, service: Service) -> None:
        self.database = service.connections.database
        self.organization, self.contact, self.chat, self.user = (ObjectId() for _ in range(4))
        own = {"tenant": {"ref": self.organization}}
        person = {"name": {"given": "Priya", "family": "Holloway"}, "mobile": "+44 1", "mail": "p@example.com"}
        self.database.customers.insert_one({"_id": self.contact, **own, **person, "firstName": "Wrong"})
        self.database.users.insert_one({"_id": self.user, **own, "displayName": "Sam"})
        self.database.chats.insert_one(
            {"_id": self.chat, **own, "customerRef": self.contact, "state": {"status": "open"}}
        )
        self.messages = [ObjectId() for _ in range(6)]
        self.database.chat_lines.insert_many(
            {
                "_id": key,
                **own,
                "customer": self.contact,
                "chatId": str(self.chat) if place == 1 else self.chat,
                "content": {"body": f"Text {place}"},
                "sentAt": START + timedelta(seconds=place),
                "author": {"kind": AUTHORS[place % 3]},
                "sender": "wrong",
                **({"deletedAt": START} if place == 4 else {"deletedAt": None}),
                **({"meta": {"internal": True}} if place == 5 else {}),
            }
            for place, key in enumerate(self.messages)
        )

    def request(self, **fields: Any) -> dict[str, Any]:
        return {"organizationId": self.organization, "contactId": self.contact, **fields}

    def snapshot(self, service: Service, **fields: Any) -> dict[str, Any]:
        asked = NewRequest(SnapshotRequest.read(self.request(**fields)), str(ObjectId()), "client")
        (receipt,) = service.accept([asked])
        assert isinstance(receipt, Receipt)
        Run(service)([receipt.id])
        snapshot: dict[str, Any] | None = service.connections.database.trainingsnapshots.find_one({"_id": receipt.id})
        assert snapshot, service.ledger.load([receipt.id])
        return snapshot

    def close(self) -> None:
        closed = {"status": "solved", "closedAt": START, "closedBy": self.user}
        self.database.chats.update_one({"_id": self.chat}, {"$set": {"state": closed}})
