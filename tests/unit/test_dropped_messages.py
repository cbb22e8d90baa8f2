"""Celery's log records of dropped messages, which must not show their bodies."""

import logging
from collections.abc import Iterator

import pytest
from celery.worker.consumer import consumer

from support.logs import logging_restored
from worker.log import configure
from worker.settings import load

LOGGER = logging.getLogger(consumer.__name__)


@pytest.fixture
def configured() -> Iterator[None]:
    with logging_restored():
        configure(load(log_format="json"))
        yield


@pytest.mark.parametrize("name", ["UNKNOWN_FORMAT", "UNKNOWN_TASK_ERROR", "INVALID_TASK_ERROR", "MESSAGE_DECODE_ERROR"])
@pytest.mark.usefixtures("configured")
def test_a_dropped_message_is_logged_without_its_body(name: str, caplog: pytest.LogCaptureFixture) -> None:
    template = getattr(consumer, name)
    LOGGER.error(template, *["priya@example.com"] * template.count("%"))
    assert "A message was dropped" in caplog.text
    assert "priya" not in caplog.text
