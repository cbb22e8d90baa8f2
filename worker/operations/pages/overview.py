"""The overview page: counts, queues, and the last hour."""

from fastapi import Response

from worker.operations.backend import READ_SECONDS
from worker.operations.web.charts import latency_chart, throughput_chart
from worker.operations.web.endpoint import PageRequest
from worker.operations.web.formats import seconds_between
from worker.stores.stats import worst_first

_MAX_ORGANIZATIONS = 100
_REFRESH_SECONDS = 15


async def show(request: PageRequest) -> Response:
    """Show counts, queues, and the last hour."""
    overview = await request.backend.overviews.get(request.viewer.organization, READ_SECONDS)
    if overview is None:
        return request.render("overview_pending", refresh=1)
    oldest = overview.waiting.oldest if overview.waiting else {}
    return request.render(
        "overview",
        overview=overview,
        identities=worst_first(overview.identities)[:_MAX_ORGANIZATIONS],
        more=max(len(overview.identities) - _MAX_ORGANIZATIONS, 0),
        age=seconds_between(overview.oldest, overview.at),
        queue_ages={queue: seconds_between(since, overview.at) for queue, since in oldest.items()},
        charts=[throughput_chart(overview.minutes), latency_chart(overview.minutes)],
        refresh_seconds=_REFRESH_SECONDS,
        refresh=_REFRESH_SECONDS if request.form["refresh"] else None,
    )
