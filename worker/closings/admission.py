"""Decides which closings the policies admit: by the conversation, its contact's channel, and its message counts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from bson import ObjectId

from worker.closings.policies import Policies, Policy
from worker.domain.assembly import LARGEST
from worker.domain.normalize import ServerShape
from worker.domain.source_fields import Expression, MessageFields
from worker.errors import ContactErased
from worker.source.ids import id_of, read_id, stored_forms
from worker.source.message_pipeline import MIN_MESSAGE_SIZE
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.tombstones import Person, Tombstones


class Admission:
    """Applies the policies to closings.

    A batch costs at most one read each of the policies, the tombstones and the contacts, and two of the messages.
    """

    def __init__(self, connections: Connections, policies: Policies) -> None:
        self._connections = connections
        self._names = connections.settings
        self._fields = connections.fields
        self._policies = policies
        self._tombstones = Tombstones(connections)

    def __call__(self, conversations: Sequence[Document]) -> list[tuple[Document, Policy | str]]:
        """Pair each conversation with the policy that admits it, or with the reason to skip it.

        The documents have `_id`, `organizationId`, `contactId`, `channelType`. Messages are counted now. A message that
        arrives within the settle delay becomes part of the snapshot, but if the conversation needs it to reach the
        minimum, the reconcile admits it later. Raises TransientError.
        """
        policies = self._policies.of({conversation["organizationId"] for conversation in conversations})
        erased = self._tombstones.erased({_person(each) for each in conversations if _has_contact(each)})
        channels = self._contact_channels(conversations, policies)
        verdicts: dict[ObjectId, Policy | str] = {}
        to_count: list[tuple[Document, Policy]] = []
        for conversation in conversations:
            verdict = _check_without_messages(conversation, policies[conversation["organizationId"]], channels)
            if _person(conversation) in erased:
                verdict = ContactErased.code
            verdicts[conversation["_id"]] = verdict
            if isinstance(verdict, Policy) and verdict.counts_messages:
                to_count.append((conversation, verdict))
        counts: dict[ObjectId, tuple[int, ...]] = {}
        for sides in (False, True):
            counted = [conversation for conversation, policy in to_count if policy.counts_sides == sides]
            counts |= self._count_messages(counted, sides=sides)
        for conversation, policy in to_count:
            key = conversation["_id"]
            verdicts[key] = policy.skip_reason_by_count(*counts.get(key, (0, 0, 0))) or policy
        return [(conversation, verdicts[conversation["_id"]]) for conversation in conversations]

    def _contact_channels(
        self, conversations: Iterable[Document], policies: dict[ObjectId, Policy | None]
    ) -> dict[ObjectId, list[str]]:
        """Read the channels of contacts whose conversation has none, if a policy depends on the channel."""
        contact_ids = [
            conversation["contactId"]
            for conversation in conversations
            if not conversation.get("channelType")
            and (policy := policies[conversation["organizationId"]])
            and policy.channel_types
        ]
        if not contact_ids:
            return {}
        collection = self._connections.database[self._names.contacts_collection]
        with store_errors():
            condition = {"_id": {"$in": stored_forms(contact_ids)}}
            contacts = collection.find(condition, self._fields.contact.projection(["channelType", "channelTypes"]))
            return {read_id(contact["_id"]): _channels(contact) for contact in contacts}

    def _count_messages(self, conversations: Sequence[Document], *, sides: bool) -> dict[ObjectId, tuple[int, ...]]:
        """Return the numbers of messages (all, from the contact, from the user) of each conversation.

        Without `sides`, only an index is read, and the last two numbers are 0. The messages of a single conversation
        are counted up to what a snapshot can hold, so the time is limited.
        """
        if not conversations:
            return {}
        by_organization: dict[ObjectId, list[ObjectId]] = defaultdict(list)
        for conversation in conversations:
            by_organization[conversation["organizationId"]].append(conversation["_id"])
        fields = self._fields.message
        organization, owner = fields["organizationId"], fields["conversationId"]
        branches = [
            {organization: {"$in": stored_forms([key])}, owner: {"$in": stored_forms(ids)}, **fields.kept}
            for key, ids in by_organization.items()
        ]
        group: Document = {"_id": id_of(f"${owner}"), "total": {"$sum": 1}}
        if sides:
            for side in ("contact", "user"):
                group[side] = {"$sum": {"$cond": [{"$eq": [_sender(fields), side]}, 1, 0]}}
        limit = [{"$limit": LARGEST // MIN_MESSAGE_SIZE + 1}] if len(conversations) == 1 else []
        pipeline: list[dict[str, Any]] = [{"$match": {"$or": branches}}, *limit, {"$group": group}]
        with store_errors():
            groups = self._connections.database[self._names.messages_collection].aggregate(pipeline)
            return {
                group["_id"]: (group["total"], group.get("contact", 0), group.get("user", 0))
                for group in groups
                if isinstance(group["_id"], ObjectId)  # `$in` matches arrays too
            }


def _sender(fields: MessageFields) -> Expression:
    """Return the sender by the same rule as `domain/normalize.py`, also for messages without sender and direction."""
    kind = fields.expression("senderType")
    by_type = {"$cond": [{"$eq": [{"$ifNull": [kind, "CONTACT"]}, "CONTACT"]}, "contact", "user"]}
    return {"$ifNull": [ServerShape(fields).sender, by_type]}


def _check_without_messages(
    conversation: Document, policy: Policy | None, channels: dict[ObjectId, list[str]]
) -> Policy | str:
    """Apply the rules that need no message counts; return the policy, or the reason to skip."""
    if policy is None:
        return "policy_invalid"
    if not _has_contact(conversation):
        return "no_contact"
    own = conversation.get("channelType")
    known = [own] if isinstance(own, str) and own else channels.get(conversation["contactId"], [])
    return policy.skip_reason(conversation["_id"], known) or policy


def _has_contact(conversation: Document) -> bool:
    return isinstance(conversation.get("contactId"), ObjectId)


def _person(conversation: Document) -> Person:
    return conversation["organizationId"], conversation.get("contactId")  # type: ignore[return-value]


def _channels(contact: Document) -> list[str]:
    several = contact.get("channelTypes")
    channels = [contact.get("channelType"), *(several if isinstance(several, list) else ())]
    return [channel for channel in channels if isinstance(channel, str)]
