"""Logs a browser in with a token, and out."""

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from worker.api.responses import Forbidden, RateLimited, Unauthorized
from worker.operations.backend import Backend
from worker.operations.web.csrf import check_same_site
from worker.operations.web.endpoint import PageRequest
from worker.operations.web.errors import MethodNotAllowed, Page
from worker.operations.web.forms import query_of, read_form
from worker.operations.web.rendering import HEADERS, render
from worker.operations.web.session import (
    LOGIN,
    close_session,
    delete_cookie,
    open_session,
    path_after_login,
    set_cookie,
)

_MAX_FORM = 16_384
_SCHEME = "bearer "


class Login(Page):
    """The login form."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _answer(self, request: Request) -> Response:
        if request.method in {"GET", "HEAD"}:
            query = query_of(request)
            message = "The session has ended. Log in again." if query["ended"] else ""
            return _render_form(200, path_after_login(query["next"]), message)
        if request.method != "POST":
            raise MethodNotAllowed(allowed="GET, HEAD, POST")
        check_same_site(request)  # otherwise another site could log the browser in with a token of its choice
        form = await read_form(request, _MAX_FORM)
        token, target = form["token"], path_after_login(form["next"])
        if token.lower().startswith(_SCHEME):
            token = token[len(_SCHEME) :].strip()
        try:
            secret = await open_session(request, token, self._backend)
        except (Unauthorized, Forbidden, RateLimited) as error:
            self._backend.container.metrics.logged_in("token", "refused")
            return _render_form(error.status, target, error.message)
        self._backend.container.metrics.logged_in("token", "opened")
        response = RedirectResponse(target, 303, HEADERS)
        set_cookie(response, request, secret)
        return response


def _render_form(status: int, target: str, message: str) -> Response:
    return render("login", None, status, target=target, message=message)


async def logout(request: PageRequest) -> Response:
    """End the session, and forget the cookie."""
    await close_session(request.request, request.backend)
    response = RedirectResponse(LOGIN, 303, HEADERS)
    delete_cookie(response, request.request)
    return response
