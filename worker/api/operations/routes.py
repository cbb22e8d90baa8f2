"""The paths of the operations page. They are no part of the API that the OpenAPI document describes."""

from fastapi import Request, Response
from starlette.routing import Route

from worker.api.operations import login, redriving, rejected, requests
from worker.api.operations.access import LOGIN, ROOT
from worker.api.operations.desk import Desk
from worker.api.operations.endpoint import Asked, Endpoint
from worker.api.operations.rendering import ASSETS, HEADERS
from worker.errors import NotFound

_EXPANSION = 3
"""Bytes that one byte takes in a form at most: %0A."""


def routes(desk: Desk) -> list[Route]:
    """To be added to an app."""
    largest = _EXPANSION * desk.settings.api_max_body
    shown = [
        ("", Endpoint(desk, requests.overview)),
        ("/", Endpoint(desk, requests.overview)),
        ("/requests", Endpoint(desk, requests.listing)),
        ("/requests/{id}", Endpoint(desk, requests.one)),
        ("/redrive", Endpoint(desk, post=redriving.confirm)),
        ("/redrive/confirmed", Endpoint(desk, post=redriving.redrive)),
        ("/redriven", Endpoint(desk, redriving.watch)),
        ("/rejected", Endpoint(desk, rejected.listing)),
        ("/rejected/{id}", Endpoint(desk, rejected.show, rejected.take_in, largest)),
        ("/logout", Endpoint(desk, post=login.logout)),
    ]
    return [
        Route(LOGIN, login.Login(desk), include_in_schema=False),
        *(Route(f"{ROOT}/{name}", _asset, include_in_schema=False) for name in ASSETS),
        *(Route(f"{ROOT}{path}", endpoint, include_in_schema=False) for path, endpoint in shown),
        Route(f"{ROOT}/{{rest:path}}", Endpoint(desk, _nowhere, _nowhere), include_in_schema=False),
    ]


async def _asset(request: Request) -> Response:
    """The same for everyone, so without a token; its address changes with its content."""
    content, kind = ASSETS[request.url.path.rsplit("/", 1)[1]]
    return Response(content, 200, {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}, kind)


async def _nowhere(_: Asked) -> Response:
    raise NotFound("There is no such page.")
