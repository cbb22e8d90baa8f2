"""The FastAPI app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from worker.api import health, snapshots
from worker.api.container import Parts
from worker.api.dispatch import Dispatch, methods_of
from worker.api.docs_page import documentation
from worker.api.middleware import Framing
from worker.api.responses import failure, no_such_path
from worker.errors import TransientError
from worker.log import get_logger
from worker.operations.backend import Desk
from worker.operations.routes import routes
from worker.service import Service
from worker.stores import indexes

log = get_logger(__name__)

_SECURITY = {"bearer": {"type": "http", "scheme": "bearer", "description": "a JSON Web Token, or an integration key"}}
_DESCRIPTION = """\
Training snapshots: frozen copies of conversations, made in the background. Every operation on snapshots needs
`Authorization: Bearer <token>` and sees the token's organization only.

    curl -X POST http://127.0.0.1:8000/api/training/snapshots \\
      -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
      -d '{"contactId": "6a1b2c3d4e5f60718293a4b5", "notes": "Excellent handling", "tags": ["billing"],
           "quality": "excellent", "category": "customer_support"}'
"""


def build_app(service: Service) -> ASGIApp:
    """The app on a service, which it closes in the end. Raises InvalidSettings."""
    parts = Parts(service)

    desk = Desk(parts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.write(_create_indexes, service)
        yield
        desk.close()
        parts.close()

    app = FastAPI(
        title="Training snapshots",
        version=version("training-snapshots"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    routers = [snapshots.router(service.settings), health.router()]
    for router in routers:
        app.include_router(router)
    operations = [each for router in routers for each in router.routes if isinstance(each, APIRoute)]
    app.state.operations = operations
    app.add_route("/docs", _docs, include_in_schema=False)
    app.router.routes.extend(routes(desk))
    app.add_exception_handler(HTTPException, _http_error)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return Framing(Dispatch(app, operations), parts.measures)


def _create_indexes(service: Service) -> None:
    try:
        indexes.ensure(service.connections)
    except TransientError as error:
        log.warning("indexes_later", code=error.code, reason=error.message)


async def _docs(request: Request) -> Response:
    return HTMLResponse(documentation(request.app.openapi()))


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, no such method: then `Allow` names all that there are."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    headers = dict(error.headers or {})
    if error.status_code == 405:
        here = (methods_of(each) for each in request.app.state.operations if each.path_regex.match(request.url.path))
        # The documentation is no operation; the framework's own word is all that there is of it.
        methods = set().union(*here) or set(headers.get("Allow", "").split(", "))
        headers["Allow"] = allowed = ", ".join(sorted(methods))
        return failure(405, f"This path takes {allowed}.", "method_not_allowed", headers=headers)
    if error.status_code == 404:
        return no_such_path(headers)
    return failure(error.status_code, f"{error.detail}.", "http_error", headers=headers)


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: exactly the statuses that there are."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        document["components"]["securitySchemes"] = _SECURITY
        for path, operations in document["paths"].items():
            if path.startswith("/api/"):
                for operation in operations.values():
                    operation["security"] = [{"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema
