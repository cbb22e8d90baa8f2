"""The endpoints for liveness, readiness and metrics, which need no token."""

from dataclasses import asdict

from fastapi import APIRouter, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from worker.api.dependencies import App
from worker.api.responses import encode, json_response
from worker.api.schemas import Alive, Ready

router = APIRouter(tags=["operation"])


@router.head("/healthz", include_in_schema=False)
@router.get(
    "/healthz", summary="Liveness", responses={200: {"model": Alive, "description": "The process answers requests."}}
)
async def healthz() -> Response:
    """Returns 200 while the process can answer requests."""
    return json_response(200, encode({"status": "ok"}))


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Readiness of MongoDB, Redis and the workers",
    responses={
        200: {"model": Ready, "description": "Requests are accepted."},
        503: {"model": Ready, "description": "MongoDB is down, so nothing can be accepted."},
    },
)
async def readyz(app: App) -> Response:
    """Returns 503 while MongoDB is down. Without Redis or a worker, requests are accepted and processed later."""
    readiness = await app.check_readiness()
    content = {"status": readiness.status, **asdict(readiness)}
    return json_response(200 if readiness.mongo else 503, encode(content))


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    summary="Metrics, for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text format."}
    },
)
async def metrics(app: App) -> Response:
    """HTTP metrics describe this process. All others describe the whole system, and every process returns the same."""
    return Response(await app.render_metrics(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
