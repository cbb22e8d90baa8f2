"""Around every page: who looks, whether a form is really theirs, and a page for whatever goes wrong."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from bson import ObjectId
from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from worker.api.responses import HttpError, TokenMissing, Unauthorized
from worker.errors import InvalidRequest, NotFound, Refused, SnapshotError, TransientError
from worker.log import get_logger
from worker.operations.backend import Desk
from worker.operations.web.forms import Form, form_of, object_id, query_of
from worker.operations.web.rendering import HEADERS, page
from worker.operations.web.session import COOKIE, CSRF, LOGIN, ROOT, Viewer, check_proof, check_site, forget, viewer_of

log = get_logger(__name__)

_TITLES = {
    400: "That cannot be read",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not there",
    405: "Not like this",
    409: "Not now",
    413: "Too large",
    415: "Not a form",
    429: "Too many requests",
    500: "Something broke",
    503: "Not available at the moment",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of someone who may. `form`: of a POST, else the address's."""

    request: Request
    desk: Desk
    viewer: Viewer
    form: Form

    @property
    def id(self) -> ObjectId:
        """In the path. Raises InvalidRequest."""
        return object_id("id", self.request.path_params["id"])

    def page(self, name: str, status: int = 200, **values: object) -> Response:
        return page(name, self.viewer, status, **values)


Show = Callable[[Asked], Awaitable[Response]]
_FORM_MOST = 262_144


class Endpoint:
    """ASGI: one path, with what it shows to a GET and does for a POST."""

    def __init__(self, desk: Desk, get: Show | None = None, post: Show | None = None, most: int = _FORM_MOST) -> None:
        self._desk = desk
        self._shows = {"GET": get, "HEAD": get, "POST": post}
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await answered(request, self._answer)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        viewer = await viewer_of(request, self._desk.parts)
        show = self._shows.get(request.method)
        if show is None:
            raise MethodNotAllowed(allowed=", ".join(name for name, each in self._shows.items() if each))
        if request.method != "POST":
            return await show(Asked(request, self._desk, viewer, query_of(request)))
        if viewer.csrf is not None:
            check_site(request)
        form = await form_of(request, self._most)
        check_proof(viewer, form[CSRF])
        return await show(Asked(request, self._desk, viewer, form))


class MethodNotAllowed(HttpError):
    """This page does not take this method."""

    code = "method_not_allowed"
    status = 405


async def answered(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """The answer, or the page of what went wrong."""
    try:
        return await answer(request)
    except SnapshotError as error:
        return problem(request, error)
    except ClientDisconnect:
        raise  # no one is there to read a page
    except Exception:
        # The boundary: a person gets a page, and the log has the traceback.
        log.exception("operations_page_broken")
        return _problem_page(500, "The server met an error that no one foresaw; its log has it.", "internal")


def problem(request: Request, error: SnapshotError) -> Response:
    """The page of an error; who has no valid token goes to the login first."""
    if isinstance(error, Unauthorized) and "authorization" not in request.headers and request.method in {"GET", "HEAD"}:
        return _to_login(request, error)
    response = _problem_page(_status(error), _said(error), error.code)
    if isinstance(error, HttpError):
        response.headers.update({**error.headers, **error.details.get("headers", {})})
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.details["allowed"]
    if isinstance(error, TransientError):
        response.headers["Retry-After"] = "5"
    return response


def _to_login(request: Request, error: Unauthorized) -> Response:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    asked = {} if wanted == ROOT else {"next": wanted}
    if not isinstance(error, TokenMissing):
        asked["ended"] = "1"
    response = RedirectResponse(f"{LOGIN}?{urlencode(asked)}" if asked else LOGIN, 303, HEADERS)
    if COOKIE in request.cookies:
        forget(response, request)
    return response


def _problem_page(status: int, said: str, code: str) -> Response:
    return page("error", None, status, title=_TITLES.get(status, "Something went wrong"), said=said, code=code)


def _status(error: SnapshotError) -> int:
    if isinstance(error, HttpError):
        return error.status
    for kind, status in ((NotFound, 404), (InvalidRequest, 400), (TransientError, 503), (Refused, 409)):
        if isinstance(error, kind):
            return status
    return 500


def _said(error: SnapshotError) -> str:
    if isinstance(error, InvalidRequest):
        return "; ".join(f"{each['field']}: {each['message']}" for each in error.errors)
    return error.message
