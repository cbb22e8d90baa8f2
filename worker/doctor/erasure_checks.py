"""Checks the key of the tombstones and the log of erasures, so that no erased contact is accepted again."""

from collections.abc import Iterator

from worker.doctor.findings import Finding, failure, ok
from worker.erasure import log
from worker.errors import InvalidSettings
from worker.service import Service
from worker.settings import PREFIX
from worker.stores.connections import store_errors
from worker.stores.tombstones import KEY_MARK


def check(service: Service) -> Iterator[Finding]:
    """Compare the key and the log of the settings with the tombstones. Raises all TransientErrors."""
    tombstones = service.tombstones
    with store_errors():
        mark = tombstones.collection.find_one({"_id": KEY_MARK})
        count = tombstones.collection.estimated_document_count() - bool(mark)
    if mark and mark["fingerprint"] != tombstones.fingerprint:
        message = f"{PREFIX}ERASURE_KEY is not the key that earlier erasures used, so no requests are accepted."
        yield failure(message, "Set SNAPSHOTS_ERASURE_KEY to the key of the earlier erasures, in all processes.")
    try:
        log.check(service.settings)
    except InvalidSettings as error:
        advice = f"Correct {log.VARIABLE}, or create the folder: erasures are refused, and workers may not start."
        yield failure(error.message, advice)
        return
    if lost := log.missing(service):
        message = f"The database is older than {log.VARIABLE}: {len(lost)} tombstones are missing."
        yield failure(message, "Restart a worker: it erases those contacts again before it takes a message.")
    yield ok(f"{count} tombstones")
