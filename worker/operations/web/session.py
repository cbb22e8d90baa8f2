"""Authenticates viewers of the operations pages, by the ADMIN token in a header or in the session of the cookie."""

import re
from dataclasses import dataclass

from bson import ObjectId
from fastapi import Request, Response

from worker.api.responses import Forbidden, TokenInvalid, TokenMissing
from worker.api.roles import Right
from worker.api.tokens import Caller
from worker.operations.backend import Backend
from worker.operations.web.csrf import csrf_token

ROOT = "/operations"
LOGIN = f"{ROOT}/login"
COOKIE = "snapshots_operations"


@dataclass(frozen=True, slots=True)
class Viewer:
    """The caller. `csrf`: the token that the forms must contain, or None if the caller's token came in a header."""

    caller: Caller
    csrf: str | None

    @property
    def organization(self) -> ObjectId | None:
        """The only organization that the viewer sees; None for an operator, who sees all."""
        return None if self.caller.operator else self.caller.organization

    def restrict(self, requested: ObjectId | None) -> ObjectId | None:
        """Return the organization to show if `requested` is asked for; None means all. Raises Forbidden."""
        if self.organization is None or requested in (None, self.organization):
            return requested or self.organization
        raise Forbidden("This token may only see its own organization.")


def has_token(request: Request) -> bool:
    """Return whether a program sends a token. A browser sends the login of a proxy in the same header."""
    return request.headers.get("authorization", "").lower().startswith("bearer ")


async def viewer_of(request: Request, backend: Backend) -> Viewer:
    """Return the caller who views the page.

    Raises TokenMissing, TokenExpired, TokenInvalid, RateLimited, Forbidden, StoreUnavailable.
    """
    if has_token(request):
        return Viewer(await backend.container.admit(request, Right.OPERATE), None)
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise TokenMissing
    proof = await backend.session(backend.sessions.find, secret)
    if proof is None:
        raise TokenInvalid("The session has ended. Log in again.")
    if isinstance(proof, Caller):
        caller = await backend.container.admit_caller(proof, Right.OPERATE)
    else:
        caller = await backend.container.admit_token(request, proof, Right.OPERATE)
    return Viewer(caller, csrf_token(secret))


async def open_session(request: Request, token: str, backend: Backend) -> str:
    """Log in, and return the secret for the cookie.

    Raises TokenMissing, TokenExpired, TokenInvalid, RateLimited, Forbidden, StoreUnavailable.
    """
    if not token:
        raise TokenMissing("Enter a token.")
    await backend.container.admit_token(request, token, Right.OPERATE)
    return await backend.session(backend.sessions.open, token)


async def close_session(request: Request, backend: Backend) -> None:
    """Log out: no API process accepts the cookie from then on. Raises StoreUnavailable."""
    if secret := request.cookies.get(COOKIE):
        await backend.session(backend.sessions.close, secret)


def set_cookie(response: Response, request: Request, secret: str) -> None:
    """Let the browser keep the session until it is closed."""
    response.set_cookie(COOKIE, secret, path=ROOT, secure=_is_https(request), httponly=True, samesite="strict")


def delete_cookie(response: Response, request: Request) -> None:
    response.delete_cookie(COOKIE, path=ROOT, secure=_is_https(request), httponly=True, samesite="strict")


def _is_https(request: Request) -> bool:
    """Return whether the browser uses https, also behind a proxy.

    A forged header only makes its own sender lose the cookie.
    """
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return "https" in {request.url.scheme, forwarded}


def path_after_login(given: str) -> str:
    """Return `given` if it is the path of an operations page, otherwise the path of the overview."""
    valid = re.fullmatch(rf"{ROOT}(/[A-Za-z0-9/._-]*)?(\?[A-Za-z0-9=&%.:_+-]*)?", given, re.ASCII)
    return given if valid and not given.startswith(LOGIN) else ROOT
