"""The way in for a browser: a form that takes a token, and the way out."""

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.types import Receive, Scope, Send

from worker.api.responses import Forbidden, RateLimited, Unauthorized
from worker.errors import SnapshotError
from worker.operations.backend import Desk
from worker.operations.web.endpoint import Asked, MethodNotAllowed, answered
from worker.operations.web.forms import form_of, query_of
from worker.operations.web.rendering import HEADERS, page
from worker.operations.web.session import LOGIN, check_login, check_site, forget, keep, next_of

_MOST = 16_384
_SCHEME = "bearer "


class Login:
    """ASGI: the form, and what it is sent to."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await answered(request, self._answer)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method in {"GET", "HEAD"}:
            asked = query_of(request)
            said = "The token is no longer valid. Log in again." if asked["ended"] else ""
            return _form(200, next_of(asked["next"]), said)
        if request.method != "POST":
            raise MethodNotAllowed(allowed="GET, HEAD, POST")
        check_site(request)  # else another site could log someone in as it likes
        form = await form_of(request, _MOST)
        token, wanted = form["token"], next_of(form["next"])
        if token.lower().startswith(_SCHEME):
            token = token[len(_SCHEME) :].strip()
        try:
            await check_login(token, self._desk.parts)
        except (Unauthorized, Forbidden, RateLimited) as error:
            return _form(error.status, wanted, _said(error))
        response = RedirectResponse(wanted, 303, HEADERS)
        keep(response, request, token)
        return response


def _said(error: SnapshotError) -> str:
    return error.message


def _form(status: int, wanted: str, said: str) -> Response:
    return page("login", None, status, wanted=wanted, said=said)


async def logout(asked: Asked) -> Response:
    response = RedirectResponse(LOGIN, 303, HEADERS)
    forget(response, asked.request)
    return response
