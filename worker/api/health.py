"""Liveness, readiness, metrics: for probes, without a token."""

import asyncio

import redis
from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.api.container import Parts, parts_of
from worker.api.responses import answer, encode
from worker.api.schemas import Alive, Ready


def router() -> APIRouter:
    """The operations."""
    made = APIRouter(tags=["operation"])
    made.add_api_route(
        "/healthz",
        healthz,
        methods=["GET"],
        summary="Liveness",
        responses={200: {"model": Alive, "description": "alive"}},
    )
    made.add_api_route(
        "/readyz",
        readyz,
        methods=["GET"],
        summary="Readiness of MongoDB and Redis",
        responses={
            200: {"model": Ready, "description": "requests are accepted"},
            503: {"model": Ready, "description": "MongoDB is down: nothing can be accepted"},
        },
    )
    made.add_api_route(
        "/metrics",
        metrics,
        methods=["GET"],
        summary="Metrics, for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "text format"}},
    )
    return made


async def healthz(_: Request) -> Response:
    """The process answers."""
    return answer(200, encode({"status": "ok"}))


async def readyz(request: Request) -> Response:
    """503 while MongoDB is down. Redis may be down: what is accepted then is done after its return."""
    parts = parts_of(request)
    mongo, broker = await asyncio.gather(
        parts.read(parts.service.connections.store_answers), parts.read(_redis_answers, parts)
    )
    status = "unavailable" if not mongo else "ready" if broker else "degraded"
    return answer(200 if mongo else 503, encode({"status": status, "mongo": mongo, "redis": broker}))


def _redis_answers(parts: Parts) -> bool:
    client = redis.Redis.from_url(
        parts.settings.redis_url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


async def metrics(request: Request) -> Response:
    """Of this process, and of the whole system, which is the same whichever process is asked."""
    parts = parts_of(request)
    return Response(await parts.read(parts.measures.text), media_type=CONTENT_TYPE_PLAIN_0_0_4)
