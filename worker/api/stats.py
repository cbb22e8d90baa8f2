"""The endpoint that measures the organization's snapshots."""

from fastapi import APIRouter, Response

from worker.api.dependencies import App, HoldStatisticsSlot, MayRead, StatisticsParameters
from worker.api.responses import STATISTICS_PATH, success
from worker.api.schemas import Done, error_responses
from worker.statistics.figures import Statistics

router = APIRouter(tags=["snapshots"])


@router.head(STATISTICS_PATH, include_in_schema=False)
@router.get(
    STATISTICS_PATH,
    operation_id="measureSnapshots",
    summary="Count what the organization's snapshots contain",
    responses={200: {"model": Done[Statistics], "description": "The statistics."}, **error_responses(400)},
)
async def measure_snapshots(app: App, caller: MayRead, query: StatisticsParameters, _: HoldStatisticsSlot) -> Response:
    """Counts by quality, category, tag, month, length and duplicates; channels, languages and formats from a sample."""
    figures = await app.measure(caller.organization, query)
    return success(200, "Statistics of training snapshots", figures.model_dump_json(by_alias=True).encode())
