"""Logs a browser in with a link that works once.

Opening the link shows a page with one button, and only the button uses the link: browsers and chat programs open links
in advance to show a preview.
"""

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from worker.log import get_logger
from worker.operations.backend import Backend
from worker.operations.data.login_links import LinkNotValid
from worker.operations.web.csrf import check_same_site
from worker.operations.web.errors import MethodNotAllowed, Page
from worker.operations.web.forms import query_of, read_form
from worker.operations.web.rendering import HEADERS, render
from worker.operations.web.session import ROOT, set_cookie

log = get_logger(__name__)

_MAX_FORM = 1024


class LoginLinkPage(Page):
    """The page that a login link opens."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _answer(self, request: Request) -> Response:
        if request.method in {"GET", "HEAD"}:
            code = query_of(request)["code"]
            caller = await self._backend.session(self._backend.login_links.find, code)
            return render("login_link", None, code=code, caller=caller)
        if request.method != "POST":
            raise MethodNotAllowed(allowed="GET, HEAD, POST")
        check_same_site(request)  # otherwise another site could log the browser in with a link of its choice
        form = await read_form(request, _MAX_FORM)
        try:
            caller = await self._backend.session(self._backend.login_links.use, form["code"])
        except LinkNotValid as error:
            log.warning("operations_login_link_refused", reason=error.message)
            self._backend.container.metrics.logged_in("link", "refused")
            raise
        secret = await self._backend.session(self._backend.sessions.open, caller)
        log.info(
            "operations_login",
            by="link",
            organization_id=str(caller.organization),
            user_id=str(caller.user),
            operator=caller.operator,
        )
        self._backend.container.metrics.logged_in("link", "opened")
        response = RedirectResponse(ROOT, 303, HEADERS)
        set_cookie(response, request, secret)
        return response
