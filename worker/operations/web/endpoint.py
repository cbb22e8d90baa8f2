"""The base of all pages: authentication, the form, and an error page for every error."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeVar, TypeVarTuple

from bson import ObjectId
from fastapi import Request, Response

from worker.operations.backend import Backend
from worker.operations.web.csrf import CSRF_FIELD, check_csrf, check_same_site
from worker.operations.web.errors import MethodNotAllowed, Page
from worker.operations.web.forms import Form, object_id, query_of, read_form
from worker.operations.web.rendering import render
from worker.operations.web.session import Viewer, viewer_of

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """An authenticated request. `form` holds the fields of the body of a POST, else those of the query."""

    request: Request
    backend: Backend
    viewer: Viewer
    form: Form

    @property
    def id(self) -> ObjectId:
        """The id in the path. Raises InvalidRequest."""
        return object_id("id", self.request.path_params["id"])

    @property
    def organization(self) -> ObjectId:
        """The caller's organization, to whose share of threads the request belongs."""
        return self.viewer.caller.organization

    async def read(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Call a function that reads. Raises TooManyInProgress, TooSlow."""
        return await self.backend.read(self.organization, function, *arguments)

    def render(self, template: str, status: int = 200, **values: object) -> Response:
        return render(template, self.viewer, status, **values)


Handler = Callable[[PageRequest], Awaitable[Response]]


class Endpoint(Page):
    """The ASGI app of one path, with a handler for GET, for POST, or for both."""

    _MAX_FORM: ClassVar[int] = 262_144

    def __init__(
        self, backend: Backend, get: Handler | None = None, post: Handler | None = None, max_form: int = _MAX_FORM
    ) -> None:
        self._backend = backend
        self._handlers: Mapping[str, Handler | None] = {"GET": get, "HEAD": get, "POST": post}
        self._max_form = max_form

    async def _answer(self, request: Request) -> Response:
        viewer = await viewer_of(request, self._backend)
        handler = self._handlers.get(request.method)
        if handler is None:
            raise MethodNotAllowed(allowed=", ".join(method for method, each in self._handlers.items() if each))
        if request.method != "POST":
            return await handler(PageRequest(request, self._backend, viewer, query_of(request)))
        if viewer.csrf is not None:
            check_same_site(request)
        parse = partial(self._backend.change, viewer.caller.organization)
        form = await read_form(request, self._max_form, parse)
        check_csrf(viewer.csrf, form[CSRF_FIELD])
        return await handler(PageRequest(request, self._backend, viewer, form))
