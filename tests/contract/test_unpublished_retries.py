"""What happens to a message whose retry Redis refuses."""

from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId
from celery.exceptions import Reject

from support.ledger import Bench
from tasks import base
from worker.errors import StoreUnavailable


def unpublishable(kind: type[Any]) -> Any:
    """A task whose retry cannot be published: what Celery's `Task.retry` raises then."""

    class Unpublishable(kind):  # type: ignore[misc]  # one of the two bases of our tasks
        request = SimpleNamespace(retries=0)

        def retry(self, **_: Any) -> None:
            raise Reject("the connection was refused", requeue=False)

    return Unpublishable()


@pytest.mark.parametrize(
    ("kind", "ids", "requeue"),
    [(base.ProducerTask, None, True), (base.RequestTask, [str(ObjectId())], False), (base.RequestTask, None, False)],
)
def test_message_goes_back_to_its_queue_unless_the_sweep_repeats_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: type[Any], ids: list[str] | None, requeue: bool
) -> None:
    monkeypatch.setattr(base, "service", lambda: bench.service)
    with pytest.raises(Reject) as rejection:
        base.as_retry(unpublishable(kind), ids, StoreUnavailable())
    assert rejection.value.args[1] is requeue
