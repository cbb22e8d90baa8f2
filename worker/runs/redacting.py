"""Redacts the conversations of a run by the policies of their organizations, before snapshots are assembled."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

from bson import ObjectId

from worker.closings.policies import Policy, policies_of
from worker.domain.assembly import Conversation, customer_name, decode_messages, replace_messages
from worker.domain.ledger_entry import LedgerEntry
from worker.domain.normalize import describe
from worker.errors import ConversationNotFound, PolicyUnreadable, SnapshotError
from worker.redaction.redactor import Redactor
from worker.redaction.snapshot import RedactedSnapshot, redact_snapshot
from worker.service import Service
from worker.source.agents import Name, name_of, read_agents
from worker.source.conversations import Fetched
from worker.source.ids import read_id, stored_forms
from worker.stores.connections import store_errors

Changes = dict[ObjectId, dict[str, Any]]
"""Changed fields by the `_id` of the ledger entry: `redaction`, and the redacted fields of the request."""

_OF_REQUEST = ("notes", "tags", "quality", "category")


class ConversationRedactor:
    """Redacts the conversations that a run has fetched, by the policies of their organizations."""

    def __init__(self, service: Service) -> None:
        self._connections = service.connections
        self._policies = policies_of(service.connections)

    def __call__(self, fetched: Sequence[Fetched]) -> tuple[Sequence[Fetched], Changes]:
        """Return the requests with redacted conversations, and the changes to their ledger entries.

        A request whose organization has an invalid policy gets PolicyUnreadable instead of its conversation. Raises
        StoreUnavailable, StoreConflict. After an error nothing may be stored.
        """
        policies = self._policies.of({entry["organizationId"] for entry, _ in fetched})
        wanted = {key: policy for key, policy in policies.items() if policy is None or policy.redact}
        if not wanted:
            return fetched, {}
        agents = self._agents(fetched, wanted)
        clean: list[Fetched] = []
        changes: Changes = {}
        for entry, found in fetched:
            organization = entry["organizationId"]
            if organization not in wanted or not isinstance(found, Conversation) or found.messages is None:
                clean.append((entry, found))
                continue
            policy = wanted[organization]
            if policy is None:
                clean.append((entry, PolicyUnreadable()))
                continue
            result = redact_conversation(redactor_of(policy), entry, found, agents.get(entry["_id"], []))
            clean.append((entry, _with_changes(found, result)))
            of_request = {name: result.fields[name] for name in _OF_REQUEST if name in result.fields}
            redaction = {"policy": policy.redact_version, "counts": result.counts}
            changes[entry["_id"]] = {"redaction": redaction, **of_request}
        return clean, changes

    def _agents(
        self, fetched: Sequence[Fetched], policies: Mapping[ObjectId, Policy | None]
    ) -> Mapping[ObjectId, Sequence[Name]]:
        named = {key for key, policy in policies.items() if policy and "name" in policy.redact}
        entries = [
            entry
            for entry, found in fetched
            if entry["organizationId"] in named and isinstance(found, Conversation) and found.messages
        ]
        return read_agents(self._connections, entries) if entries else {}


def redactor_of(policy: Policy) -> Redactor:
    """Return the redactor for the kinds and regions of a policy."""
    return _redactor(tuple(policy.redact), tuple(policy.redact_regions))


@lru_cache(256)
def _redactor(kinds: tuple[str, ...], regions: tuple[str, ...]) -> Redactor:
    return Redactor(kinds, regions)


def redact_conversation(
    redactor: Redactor, entry: LedgerEntry, conversation: Conversation, agents: Sequence[Name]
) -> RedactedSnapshot:
    """Redact the messages of a conversation, its customer's fields, and the fields of the request.

    `entry`: the request, whose notes and labels are redacted. `agents`: names to redact besides the contact's.
    """
    contact = conversation.contact
    fields = {
        **{name: entry.get(name) for name in _OF_REQUEST},
        "customerName": customer_name(contact),
        "customerPhone": describe(contact.get("phoneNumber")),
        "customerEmail": describe(contact.get("email")),
    }
    messages = decode_messages(conversation.messages) if conversation.messages else []
    return redact_snapshot(redactor, messages, fields, [name_of(contact), *agents])


def preview(service: Service, redactor: Redactor, organization: ObjectId, conversation: ObjectId) -> RedactedSnapshot:
    """Return what redaction would change in a conversation of an organization, without storing anything.

    Raises ConversationNotFound and other SnapshotErrors.
    """
    fields = service.connections.fields.conversation
    which = {
        "_id": {"$in": stored_forms([conversation])},
        fields["organizationId"]: {"$in": stored_forms([organization])},
    }
    with store_errors():
        found = service.connections.database[service.settings.conversations_collection].find_one(
            which, fields.projection(["contactId"])
        )
    contact = read_id(found.get("contactId")) if found else None
    if not isinstance(contact, ObjectId):
        raise ConversationNotFound(conversationId=str(conversation))
    ids = {
        "_id": conversation,
        "organizationId": organization,
        "conversationId": conversation,
        "contactId": contact,
    }
    ((entry, fetched),) = service.conversations.fetch([cast("LedgerEntry", ids)])
    if isinstance(fetched, SnapshotError):
        raise fetched
    return redact_conversation(redactor, entry, fetched, read_agents(service.connections, [entry])[conversation])


def _with_changes(conversation: Conversation, result: RedactedSnapshot) -> Conversation:
    if conversation.messages is None or not (result.messages or result.fields):
        return conversation
    contact = dict(conversation.contact)
    if "customerName" in result.fields:
        contact |= {"firstName": result.fields["customerName"], "lastName": None}
    for name, field in (("customerPhone", "phoneNumber"), ("customerEmail", "email")):
        if name in result.fields:
            contact[field] = result.fields[name]
    return replace(conversation, contact=contact, messages=replace_messages(conversation.messages, result.messages))
