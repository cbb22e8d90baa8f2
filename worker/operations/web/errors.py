"""The ASGI app of a page, and error pages. Without a valid token, a page redirects to the login."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from worker.api.responses import HttpError, TokenMissing, Unauthorized
from worker.errors import InvalidRequest, InvalidSettings, NotFound, Refused, SnapshotError, TransientError
from worker.exports.destination import DestinationFailed
from worker.log import get_logger
from worker.operations.web.rendering import HEADERS, render
from worker.operations.web.session import COOKIE, LOGIN, ROOT, delete_cookie, has_token

log = get_logger(__name__)

_TITLES = {
    400: "Invalid request",
    401: "Login required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Not possible now",
    410: "Link not valid",
    413: "Too large",
    415: "Unsupported content type",
    429: "Too many requests",
    500: "Internal error",
    503: "Temporarily unavailable",
}
_STATUSES: dict[type[SnapshotError], int] = {
    NotFound: 404,
    InvalidRequest: 400,
    Refused: 409,
    TransientError: 503,
    DestinationFailed: 503,
    InvalidSettings: 503,
}
"""The first one that an error is an instance of decides; those of the API's own errors are in the errors."""
_AFTER_LOGIN = {401, 403, 410}
"""The errors after which logging in, or logging in as someone else, helps."""


class MethodNotAllowed(HttpError):
    """This page does not support this method."""

    code = "method_not_allowed"
    status = 405


class Page(ABC):
    """The ASGI app of a path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await _or_error_page(request, self._answer)
        await response(scope, receive, send)

    @abstractmethod
    async def _answer(self, request: Request) -> Response:
        """Return the response. A SnapshotError that it raises becomes an error page."""


async def _or_error_page(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        return await answer(request)
    except SnapshotError as error:
        return _answer_to(error, request)
    except ClientDisconnect:
        raise  # the client has disconnected
    except Exception:
        # The outermost boundary: the user gets an error page, and the traceback goes to the log.
        log.exception("operations_page_failed")
        return _error_page(500, "The page could not be shown. The API's log has the details.", "internal")


def _answer_to(error: SnapshotError, request: Request) -> Response:
    if isinstance(error, Unauthorized) and not has_token(request) and request.method in {"GET", "HEAD"}:
        return _redirect_to_login(request, error)
    response = _error_page(_status_of(error), _message_of(error), error.code)
    if isinstance(error, HttpError):
        response.headers.update({**error.headers, **error.details.get("headers", {})})
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.details["allowed"]
    if isinstance(error, TransientError):
        response.headers["Retry-After"] = "5"
    return response


def _redirect_to_login(request: Request, error: Unauthorized) -> Response:
    requested = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    fields = {} if requested == ROOT else {"next": requested}
    if not isinstance(error, TokenMissing):
        fields["ended"] = "1"
    response = RedirectResponse(f"{LOGIN}?{urlencode(fields)}" if fields else LOGIN, 303, HEADERS)
    if COOKIE in request.cookies:
        delete_cookie(response, request)
    return response


def _error_page(status: int, message: str, code: str) -> Response:
    title = _TITLES.get(status, "Error")
    return render("error", None, status, title=title, message=message, code=code, may_log_in=status in _AFTER_LOGIN)


def _status_of(error: SnapshotError) -> int:
    if isinstance(error, HttpError):
        return error.status
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)


def _message_of(error: SnapshotError) -> str:
    if isinstance(error, InvalidRequest):
        return error.sentences(lambda field: f"The field {field}")
    return error.public_message
