"""A consumer of the event stream that keeps every event in a file and checks guarantees during the run.

It sees events that a flush removes later. It checks that the snapshot of a completed event can be read, and that the
ledger and the snapshots agree in one read of the database at read concern `snapshot`.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import redis
from bson import ObjectId
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from worker.settings import Settings

_IDENTITY_SECONDS = 3.0
_CALM_SECONDS = 10.0


class Collector:
    """Two threads. `violations` are those seen during the run."""

    def __init__(self, settings: Settings, path: Path) -> None:
        self._settings, self._path = settings, path
        self._stop = threading.Event()
        self.violations: list[str] = []
        self.erasing = ""
        """The organization whose contacts are erased: their snapshots may go before an event is read."""
        self.events = 0
        self.attempts = self.identities = 0
        """How often the identity was to be checked, and how often it was and held."""
        self.store_disturbed_at = 0.0
        """Monotonic time at which the last fault of MongoDB ended; reads soon after it may meet a deposed primary."""
        self._threads = [
            threading.Thread(target=self._reporting, args=(each,), daemon=True)
            for each in (self._collect, self._identify)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops. Adds a violation if nothing was checked, which would prove nothing."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        if any(thread.is_alive() for thread in self._threads):
            self.violations.append("the consumer of the events or the check of the identity hangs")
        if not self.events or not self.identities:
            self.violations.append(
                f"only {self.events} events and {self.identities} identities were seen during the run"
            )

    def _reporting(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.violations.append(f"{work.__name__} ended: {type(error).__name__}: {error}")
            raise

    # --- events -----------------------------------------------------------------------------------------

    def _collect(self) -> None:
        last = "0"
        stream = self._settings.events_stream
        with (
            self._settings.redis.client(socket_timeout=5, socket_connect_timeout=3) as broker,
            self._path.open("a") as file,
            self._mongo() as mongo,
        ):
            snapshots = mongo[self._settings.mongo_database][self._settings.snapshots_collection]
            while not self._stop.is_set():
                try:
                    reply: Any = broker.xread({stream: last}, 500, 500)
                except redis.RedisError:
                    self._stop.wait(0.2)
                    continue
                entries = (
                    reply[stream.encode()][0] if isinstance(reply, dict) and reply else reply[0][1] if reply else []
                )
                now = time.time()
                completed = set()
                for key, fields in entries:
                    event = json.loads(fields[b"event"])
                    file.write(json.dumps({"at": now, "event": event}) + "\n")
                    last = key.decode()
                    self.events += 1
                    if event["type"].endswith("completed") and event["data"]["organizationId"] != self.erasing:
                        completed.add(ObjectId(event["subject"]))
                file.flush()
                self._read(snapshots, completed)

    def _read(self, snapshots: Any, completed: set[ObjectId]) -> None:
        """Reads the snapshots of the completed events that just arrived."""
        majority = snapshots.with_options(read_concern=ReadConcern("majority"))
        for attempt in range(200):
            try:
                completed = completed - {
                    each["_id"] for each in majority.find({"_id": {"$in": list(completed)}}, {"_id": 1})
                }
            except PyMongoError:
                self._stop.wait(0.2)
                continue
            calm = time.monotonic() - self.store_disturbed_at > _CALM_SECONDS
            if not completed or calm or attempt > 50:
                break
            self._stop.wait(0.2)  # a deposed primary may have answered
        self.violations += [f"event before its snapshot can be read: {each}" for each in completed]

    # --- the identity -------------------------------------------------------------------------------------

    def _identify(self) -> None:
        with self._mongo() as mongo:
            while not self._stop.wait(_IDENTITY_SECONDS):
                self.attempts += 1
                try:
                    broken = identity(mongo, self._settings)
                except PyMongoError:
                    continue
                self.identities += not broken
                self.violations += broken

    def _mongo(self) -> pymongo.MongoClient[Any]:
        return pymongo.MongoClient(self._settings.mongo_url, serverSelectionTimeoutMS=2000, timeoutMS=10_000)


def identity(mongo: pymongo.MongoClient[Any], settings: Settings) -> list[str]:
    """Returns where the ledger and the snapshots disagree in one read of the database at one moment."""
    database = mongo[settings.mongo_database].with_options(read_concern=ReadConcern("snapshot"))
    copied = {"$and": [{"$eq": ["$status", "completed"]}, {"$ne": ["$unchanged", True]}, {"$not": ["$deletedAt"]}]}
    pipeline: list[dict[str, Any]] = [
        {
            "$group": {
                "_id": "$organizationId",
                "accepted": {"$sum": 1},
                **{name: {"$sum": {"$cond": [{"$eq": ["$status", name]}, 1, 0]}} for name in ("completed", "failed")},
                "inFlight": {"$sum": {"$cond": [{"$eq": ["$status", "accepted"]}, 1, 0]}},
                "snapshots": {"$sum": {"$cond": [copied, -1, 0]}},
            }
        },
        {
            "$unionWith": {
                "coll": settings.snapshots_collection,
                "pipeline": [{"$group": {"_id": "$organizationId", "snapshots": {"$sum": 1}}}],
            }
        },
        {
            "$group": {
                "_id": "$_id",
                **{name: {"$sum": f"${name}"} for name in ("accepted", "completed", "failed", "inFlight", "snapshots")},
            }
        },
    ]
    broken = []
    for group in database[settings.requests_collection].aggregate(pipeline):
        if group["accepted"] != group["completed"] + group["failed"] + group["inFlight"]:
            broken.append(f"identity of {group['_id']}: {group}")
        if group["snapshots"]:
            broken.append(f"identity of {group['_id']}: {group['snapshots']} snapshots too many at one moment")
    return broken
