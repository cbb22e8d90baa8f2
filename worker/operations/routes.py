"""The paths of the operations page. They are no part of the API that the OpenAPI document describes."""

from fastapi import Request, Response
from starlette.routing import Route

from worker.errors import NotFound
from worker.operations.backend import Desk
from worker.operations.pages import login, rejected, requests
from worker.operations.pages import redrive as redriving
from worker.operations.web.endpoint import Asked, Endpoint
from worker.operations.web.rendering import ASSETS, HEADERS
from worker.operations.web.session import LOGIN, ROOT

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
