"""What happens to a message whose retry Redis refuses."""

from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId
from celery.exceptions import Reject

from support.ledger import Bench
from tasks import base
from worker.errors import StoreUnavailable


class Unpublishable:
    """A task whose retry cannot be published: what Celery's `Task.retry` raises then."""

    request = SimpleNamespace(retries=0)

    def retry(self, **_: Any) -> None:
        raise Reject("the connection was refused", requeue=False)


@pytest.mark.parametrize(("ids", "requeue"), [(None, True), ([str(ObjectId())], False)])
def test_message_goes_back_to_its_queue_unless_the_ledger_has_its_requests(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ids: list[str] | None, requeue: bool
) -> None:
    monkeypatch.setattr(base, "service", lambda: bench.service)
    task: Any = Unpublishable()
    with pytest.raises(Reject) as rejection:
        base.as_retry(task, ids, StoreUnavailable())
    assert rejection.value.args[1] is requeue
