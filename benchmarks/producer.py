"""Our producers, one process each: `python -m benchmarks.producer interactive|celery|stream|backfill|paced {...}`."""

import json
import sys
import threading
from typing import Any

from celery import Celery

from benchmarks.actors import perform
from benchmarks.dataset import LABELS, ORGANIZATIONS, Document, bodies
from benchmarks.pacing import evenly
from worker import log
from worker.backfills.accepting import accept_backfill
from worker.backfills.progress import Progress
from worker.backfills.running import Runner
from worker.bootstrap import service
from worker.domain.requests import SnapshotRequest
from worker.jobs.store import Jobs
from worker.service import NewRequest
from worker.settings import settings

_PIPELINE = 1000
_PATIENCE = 3600.0


def _submit(body: Document) -> None:
    """Check, accept and enqueue requests one by one, as HTTP and the commands do."""
    request = SnapshotRequest.read(body, settings())
    service().submit(NewRequest(request, request.request_id or "", "client"))


def _interactive(order: dict[str, Any]) -> None:
    for body in _bodies(order):
        _submit(body)


def _celery(order: dict[str, Any]) -> None:
    """Send messages with nothing but the broker's address and the name of the task, as another project does."""
    with Celery(broker=settings().redis_url, set_as_current=False) as app:
        for body in _bodies(order):
            app.send_task("snapshots.request", args=[body], queue="snapshots", argsrepr="(...)", ignore_result=True)


def _stream(order: dict[str, Any]) -> None:
    entries: list[Any] = [{"type": "snapshot.requested", "data": json.dumps(body)} for body in _bodies(order)]
    for first in range(0, len(entries), _PIPELINE):
        with service().connections.redis.pipeline(transaction=False) as pipeline:
            for entry in entries[first : first + _PIPELINE]:
                pipeline.xadd(settings().requests_stream, entry)
            pipeline.execute()


def _backfill(_: dict[str, Any]) -> dict[str, Any]:
    """Run `snapshots backfill` for every organization at once."""
    done = []

    def run(number: int) -> None:
        jobs = Jobs(service())
        job = accept_backfill(jobs, ORGANIZATIONS[number], LABELS, enqueue=False)
        done.append(Progress.of(Runner(jobs, lambda _: None)(job.id, _PATIENCE)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(ORGANIZATIONS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"completed": sum(each.completed for each in done), "requests": sum(each.requests for each in done)}


def _paced(order: dict[str, Any]) -> dict[str, Any]:
    return {"calls": evenly(_bodies(order), order["rate"], _submit)}


def _bodies(order: dict[str, Any]) -> list[Document]:
    given = bodies(order["count"], order["contacts"], order["tag"], by_conversation=order["by_conversation"])
    return list(given)


_PARTS = {"interactive": _interactive, "celery": _celery, "stream": _stream, "backfill": _backfill, "paced": _paced}


def main(kind: str, order: dict[str, Any]) -> None:
    """`order`: `count`, `contacts`, `tag`, `by_conversation`, `rate`."""
    log.configure(settings())
    service().clock.now()
    service().connections.redis.ping()
    perform(lambda: _PARTS[kind](order))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
