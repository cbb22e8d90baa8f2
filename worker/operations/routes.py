"""The paths of the operations pages. They are not part of the API that the OpenAPI document describes."""

from fastapi import Request, Response
from starlette.routing import Route

from worker.errors import NotFound
from worker.operations.backend import Backend
from worker.operations.data.login_links import PATH as LOGIN_LINK
from worker.operations.pages import jobs, login, login_link, overview, redrive, rejected, requests
from worker.operations.web.endpoint import Endpoint, PageRequest
from worker.operations.web.rendering import ASSETS, HEADERS
from worker.operations.web.session import LOGIN, ROOT

_FORM_EXPANSION = 3
"""How many bytes of a form encode one byte of text at most: a line break becomes %0A."""


def routes(backend: Backend) -> list[Route]:
    """Return the routes to add to an app."""
    max_entry_form = _FORM_EXPANSION * backend.settings.api_max_body
    endpoints = {
        "": Endpoint(backend, overview.show),
        "/": Endpoint(backend, overview.show),
        "/requests": Endpoint(backend, requests.show_list),
        "/requests/{id}": Endpoint(backend, requests.show_one),
        "/redrive": Endpoint(backend, post=redrive.confirm),
        "/redrive/confirmed": Endpoint(backend, post=redrive.redrive),
        "/redriven": Endpoint(backend, redrive.progress),
        "/rejected": Endpoint(backend, rejected.show_list),
        "/rejected/{id}": Endpoint(backend, rejected.show_one, rejected.resubmit, max_entry_form),
        "/jobs": Endpoint(backend, jobs.show_list),
        "/jobs/{id}": Endpoint(backend, jobs.show_one),
        "/jobs/{id}/end": Endpoint(backend, jobs.confirm, jobs.finish),
        "/logout": Endpoint(backend, post=login.logout),
    }
    return [
        Route(LOGIN, login.Login(backend), include_in_schema=False),
        Route(LOGIN_LINK, login_link.LoginLinkPage(backend), include_in_schema=False),
        *(Route(f"{ROOT}/{name}", _asset, include_in_schema=False) for name in ASSETS),
        *(Route(f"{ROOT}{path}", endpoint, include_in_schema=False) for path, endpoint in endpoints.items()),
        Route(f"{ROOT}/{{rest:path}}", Endpoint(backend, _not_found, _not_found), include_in_schema=False),
    ]


async def _asset(request: Request) -> Response:
    """Serve a static file. It needs no token, and its address changes with its content."""
    content, content_type = ASSETS[request.url.path.rsplit("/", 1)[1]]
    headers = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, 200, headers, content_type)


async def _not_found(_: PageRequest) -> Response:
    raise NotFound("There is no such page.")
