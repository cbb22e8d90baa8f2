"""Profiles of documents for the tests of the inspection."""

from typing import Any

from bson import ObjectId

from worker.inspection.profile import Profile


def profile(*documents: dict[str, Any]) -> Profile:
    """The profile of documents, each with an id of its own."""
    made = Profile()
    for document in documents:
        made.add({"_id": ObjectId(), **document})
    return made
