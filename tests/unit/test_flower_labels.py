"""What Flower's columns show of a request while MongoDB does not answer."""

from collections.abc import Collection

import pytest
from bson import ObjectId
from celery.events.state import Task

from worker.errors import StoreUnavailable
from worker.flower import labels
from worker.flower.labels import Labels, RequestLabel

KEY = ObjectId()


@pytest.mark.parametrize(
    ("known", "outcome"),
    [
        (RequestLabel("an organization", "api", "completed", final=True), "completed"),
        (RequestLabel("an organization", "api", "failed: empty_conversation", final=False), ""),
    ],
    ids=["final", "may have changed"],
)
def test_what_is_known_is_shown_except_for_an_outcome_that_may_have_changed(
    known: RequestLabel, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(keys: Collection[ObjectId], seconds: float) -> dict[ObjectId, RequestLabel]:
        raise StoreUnavailable

    monkeypatch.setattr(labels, "read_labels", unavailable)
    own = Labels()
    own.remember({KEY: known})
    for _ in range(2):  # the read that fails, and a row after it
        shown = own.label(Task(uuid="one", args=str(KEY)))
        assert (shown.organization, shown.trigger, shown.outcome) == ("an organization", "api", outcome)
