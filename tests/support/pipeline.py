"""The pipeline without Celery, in a test's own process."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from bson import ObjectId

from worker.domain.requests import SnapshotRequest
from worker.runs.commit import RunResult
from worker.runs.run import Run
from worker.service import NewRequest, Receipt, Service
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.connections import Connections
from worker.stores.wakeups import CREATE


def publish_nothing(
    queue: str,
    chunks: Iterable[Sequence[str]],
    at: datetime,
    delay: timedelta | None = None,
    task_id: str | None = None,
    task: str = CREATE,
) -> None:
    """A publisher whose messages no one gets: the test runs what it wants run."""


@contextmanager
def service_on(settings: Settings) -> Iterator[Service]:
    """A service with its indexes."""
    connections = Connections(settings)
    try:
        indexes.ensure(connections)
        yield Service(connections, publish_nothing)
    finally:
        connections.close()


def accept(service: Service, organization: ObjectId, contact: ObjectId, request_id: str, **fields: object) -> Receipt:
    """One accepted request; `fields` in camelCase."""
    body = {"organizationId": organization, "contactId": contact, **fields}
    return service.submit(NewRequest(SnapshotRequest.read(body), request_id, "client"))


def run_accepted(service: Service) -> RunResult:
    """Decides all that is accepted."""
    ids = [each["_id"] for each in service.ledger.collection.find({"status": "accepted"}, {"_id": 1})]
    return Run(service)(ids)
