"""Straight from a request to its operation's endpoint.

FastAPI declares the operations and documents them. Its own way to an endpoint that takes the bare request and
gives a response passes ten layers, which in a profile of POSTs took one and a half times what the endpoint
took; so only what is no operation (documentation, unknown paths and methods) goes that way.
"""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.api.responses import error_answer, no_such_path
from worker.errors import SnapshotError


def methods_of(route: APIRoute) -> set[str]:
    """HEAD too where there is GET (the server leaves the body out), but not of what is long to make."""
    own = set(route.methods or ())
    return own | {"HEAD"} if "GET" in own and route.operation_id != "exportSnapshots" else own


class Dispatch:
    """ASGI: the operations, and the app behind them."""

    def __init__(self, app: FastAPI, operations: Sequence[APIRoute]) -> None:
        self._app: ASGIApp = app
        self._state_of = app
        self._plain: dict[tuple[str, str], APIRoute] = {}
        self._patterns: list[tuple[set[str], re.Pattern[str], APIRoute]] = []
        for each in operations:
            if each.param_convertors:
                self._patterns.append((methods_of(each), each.path_regex, each))
            else:
                self._plain.update({(method, each.path): each for method in methods_of(each)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "\n" in scope["path"]:  # which `$` in a route's pattern would pass over
            await no_such_path()(scope, receive, send)
            return
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        route, parameters = found
        scope.update(app=self._state_of, route=route, path_params=parameters)
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except SnapshotError as error:
            response = error_answer(error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[APIRoute, dict[str, Any]] | None:
        if route := self._plain.get((scope["method"], scope["path"])):
            return route, {}
        for methods, pattern, each in self._patterns:
            if scope["method"] in methods and (match := pattern.match(scope["path"])):
                return each, match.groupdict()
        return None
