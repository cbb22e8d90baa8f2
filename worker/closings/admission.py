"""Which closings the policies admit: by the conversation, its contact's channel, and a count of its messages."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from bson import ObjectId

from worker.closings.policies import Policies, Policy
from worker.domain.normalize import SERVER_SENDER
from worker.stores.connections import Connections, Document, store_errors

# As `shaping` decides it, for messages that name neither sender nor direction too.
_SENDER = {
    "$ifNull": [
        SERVER_SENDER,
        {"$cond": [{"$eq": [{"$ifNull": ["$senderType", "CONTACT"]}, "CONTACT"]}, "contact", "user"]},
    ]
}


class Admission:
    """Applies the policies. Costs at most a read of the policies, of contacts and of message counts a batch."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings
        self._policies = Policies(connections)

    def __call__(self, conversations: Sequence[Document]) -> list[tuple[Document, Policy | str]]:
        """Each conversation with the policy that admits it, or with the reason that leaves it out.

        The documents have `_id`, `organizationId`, `contactId`, `channelType`. Messages are counted now: one that
        arrives within the settle delay is in the snapshot, but a conversation that it alone makes long enough is
        admitted later, by the reconcile. Raises TransientError.
        """
        policies = self._policies.of({each["organizationId"] for each in conversations})
        channels = self._channels_of_contacts(conversations, policies)
        verdicts: dict[ObjectId, Policy | str] = {}
        to_count: list[Document] = []
        for each in conversations:
            verdict = _first_look(each, policies[each["organizationId"]], channels)
            verdicts[each["_id"]] = verdict
            if isinstance(verdict, Policy) and verdict.counts_messages:
                to_count.append(each)
        sides = any(policies[each["organizationId"]].counts_sides for each in to_count)  # type: ignore[union-attr]
        counts = self._count_messages(to_count, sides=sides)
        for each in to_count:
            policy = verdicts[each["_id"]]
            assert isinstance(policy, Policy)  # noqa: S101 - those alone are counted
            verdicts[each["_id"]] = policy.finds_too_few(*counts.get(each["_id"], (0, 0, 0))) or policy
        return [(each, verdicts[each["_id"]]) for each in conversations]

    def _channels_of_contacts(
        self, conversations: Iterable[Document], policies: dict[ObjectId, Policy | None]
    ) -> dict[ObjectId, list[str]]:
        """Of contacts whose conversation does not say its channel, where a policy asks for it."""
        wanted = [
            each["contactId"]
            for each in conversations
            if not each.get("channelType") and (policy := policies[each["organizationId"]]) and policy.channel_types
        ]
        if not wanted:
            return {}
        contacts = self._connections.database[self._names.contacts_collection]
        with store_errors():
            found = contacts.find({"_id": {"$in": wanted}}, {"channelType": 1, "channelTypes": 1})
            return {each["_id"]: _channels(each) for each in found}

    def _count_messages(self, conversations: Sequence[Document], *, sides: bool) -> dict[ObjectId, tuple[int, ...]]:
        """In all, from the contact, from the user. Without `sides` the index alone answers, and those are 0."""
        if not conversations:
            return {}
        by_organization: dict[ObjectId, list[ObjectId]] = defaultdict(list)
        for each in conversations:
            by_organization[each["organizationId"]].append(each["_id"])
        branches = [{"organizationId": key, "conversationId": {"$in": ids}} for key, ids in by_organization.items()]
        group: Document = {"_id": "$conversationId", "total": {"$sum": 1}}
        if sides:
            for side in ("contact", "user"):
                group[side] = {"$sum": {"$cond": [{"$eq": [_SENDER, side]}, 1, 0]}}
        pipeline: list[dict[str, Any]] = [{"$match": {"$or": branches}}, {"$group": group}]
        with store_errors():
            found = self._connections.database[self._names.messages_collection].aggregate(pipeline)
            return {
                each["_id"]: (each["total"], each.get("contact", 0), each.get("user", 0))
                for each in found
                if isinstance(each["_id"], ObjectId)  # `$in` finds arrays too
            }


def _first_look(conversation: Document, policy: Policy | None, channels: dict[ObjectId, list[str]]) -> Policy | str:
    """What can be said without its messages."""
    if policy is None:
        return "policy_invalid"
    if not isinstance(conversation.get("contactId"), ObjectId):
        return "no_contact"
    own = conversation.get("channelType")
    known = [own] if isinstance(own, str) and own else channels.get(conversation["contactId"], [])
    return policy.leaves_out(conversation["_id"], known) or policy


def _channels(contact: Document) -> list[str]:
    several = contact.get("channelTypes")
    found = [contact.get("channelType"), *(several if isinstance(several, list) else ())]
    return [each for each in found if isinstance(each, str)]
