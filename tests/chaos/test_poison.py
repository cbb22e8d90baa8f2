"""A request that kills its process, in a chunk of valid ones."""

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
from worker.service import NewRequest, Receipt
from worker.stores.wakeups import BULK

SETTINGS = {"run_deadline": "1s", "sweep_interval": "1s", "mongo_database": "poison"}
"""The requests of a killed worker are swept after 7 s."""


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
                _new_request(contact.organization, contact.id, conversation, "poison" if number == 50 else "good")
                for number, conversation in enumerate(contact.conversations)
            ]
        )
        service.enqueue(each for each in receipts if isinstance(each, Receipt))
        eventually(lambda: database.snapshotrequests.count_documents({"status": "accepted"}) == 0, 180, 0.5)
        service.connections.close()
        entries = list(database.snapshotrequests.find())
        assert Counter(entry["status"] for entry in entries) == {"completed": 99, "failed": 1}
        (failed,) = (entry for entry in entries if entry["status"] == "failed")
        assert (failed["tags"], failed["error"]["code"]) == (["poison"], "worker_lost")
        assert database.trainingsnapshots.count_documents({}) == 99


def _new_request(organization: ObjectId, contact: ObjectId, conversation: ObjectId, tag: str) -> NewRequest:
    body = {"organizationId": organization, "contactId": contact, "conversationId": conversation, "tags": [tag]}
    return NewRequest(SnapshotRequest.read(body), f"r-{conversation}", "backfill", BULK)
