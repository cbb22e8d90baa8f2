"""What the tests of the change stream share: closings are accepted and retried without delay."""

from collections.abc import Iterator

import pytest

from support.closings import without_delays
from support.pipeline import service_on
from worker.service import Service
from worker.settings import Settings


@pytest.fixture
def own(settings: Settings) -> Settings:
    return without_delays(settings)


@pytest.fixture
def service(own: Settings) -> Iterator[Service]:
    with service_on(own) as made:
        yield made
