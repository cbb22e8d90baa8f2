"""Charts of the overview with values at their ends."""

from datetime import UTC, datetime

import pytest

from worker.operations.data.throughput import Minute
from worker.operations.web.charts import latency_chart

START = datetime(2026, 5, 13, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01, 1.0, 99_999.0, 100_000.0, 250_000.0, 1e7])
def test_times_of_any_length_are_drawn(seconds: float) -> None:
    minute = Minute(START, completed=1, median=seconds, p95=seconds)
    assert latency_chart([minute]).description.startswith("The median is ")
