"""A request that kills its process, in the middle of a chunk of good ones."""

from collections import Counter
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from chaos import servers
from chaos.system import running
from support.contacts import contact_with
from support.waiting import eventually
from worker.bootstrap import build
from worker.domain.requests import SnapshotRequest
from worker.local.data_folder import data_folder
from worker.service import Asked, Receipt
from worker.stores.wakeups import BULK

SETTINGS = {"run_deadline": "1s", "sweep_interval": "1s", "mongo_database": "poison"}
"""What a killed worker had is swept after 7 s."""


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_poison_in_a_chunk_of_100_fails_alone_as_worker_lost(tmp_path: Path) -> None:
    extra = {"CHAOS_POISON": "poison", "CHAOS_CLOCK": ""}
    with (
        data_folder() as folder,
        servers.running(folder) as stores,
        running(folder, stores, SETTINGS, extra, without=("api", "listener1", "listener2")) as system,
        pymongo.MongoClient[Any](stores.mongo_url, w="majority") as mongo,
    ):
        database = mongo.poison
        contact = contact_with(database, *[2] * 100)
        service = build(system.settings)
        receipts = service.accept(
            [
                _asked(contact.organization, contact.id, conversation, "poison" if number == 50 else "good")
                for number, conversation in enumerate(contact.conversations)
            ]
        )
        service.enqueue(each for each in receipts if isinstance(each, Receipt))
        eventually(lambda: database.snapshotrequests.count_documents({"status": "accepted"}) == 0, 180, 0.5)
        service.connections.close()
        found = list(database.snapshotrequests.find())
        assert Counter(each["status"] for each in found) == {"completed": 99, "failed": 1}
        (failed,) = (each for each in found if each["status"] == "failed")
        assert (failed["tags"], failed["error"]["code"]) == (["poison"], "worker_lost")
        assert database.trainingsnapshots.count_documents({}) == 99


def _asked(organization: ObjectId, contact: ObjectId, conversation: ObjectId, tag: str) -> Asked:
    body = {"organizationId": organization, "contactId": contact, "conversationId": conversation, "tags": [tag]}
    return Asked(SnapshotRequest.read(body), f"r-{conversation}", "backfill", BULK)
