"""Who looks at the operations page: an ADMIN's token, in a header or in a cookie that a form has set.

A browser sends a cookie whoever made it ask, so what changes something needs a proof that one of our pages asked:
a value made of the token, which no one else knows, and no word from the browser that another site asked.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from bson import ObjectId
from fastapi import Request, Response

from worker.api.container import Parts
from worker.api.responses import Forbidden, TokenInvalid, TokenMissing
from worker.api.roles import Right
from worker.api.tokens import Caller

ROOT = "/operations"
LOGIN = f"{ROOT}/login"
COOKIE = "snapshots_operations"
CSRF = "csrf"
"""The form field with the proof."""
_LONGEST = 3900
"""Characters of a token in a cookie: browsers keep 4096 bytes of its name, value and attributes (RFC 6265 6.1)."""
_FIT = re.compile(r"[A-Za-z0-9._~+/=-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. `csrf`: the proof that its forms carry, None where the token came in a header."""

    caller: Caller
    csrf: str | None

    @property
    def organization(self) -> ObjectId | None:
        """The only one that it sees; None: an operator, who sees all."""
        return None if self.caller.operator else self.caller.organization

    def of(self, asked: ObjectId | None) -> ObjectId | None:
        """The organization to look at where `asked` is asked for. Raises Forbidden."""
        if self.organization is None or asked in (None, self.organization):
            return asked or self.organization
        raise Forbidden("The token sees its own organization only.")


async def viewer_of(request: Request, parts: Parts) -> Viewer:
    """Raises TokenMissing, TokenExpired, TokenInvalid, RateLimited, Forbidden."""
    if "authorization" in request.headers:
        return Viewer(await parts.admit(request, Right.OPERATE), None)
    token = request.cookies.get(COOKIE)
    if not token:
        raise TokenMissing
    return Viewer(await parts.admit_token(token, Right.OPERATE), proof_of(token))


async def check_login(token: str, parts: Parts) -> None:
    """Raises TokenMissing, TokenExpired, TokenInvalid, RateLimited, Forbidden."""
    if not token:
        raise TokenMissing("Paste a token.")
    if not _FIT.fullmatch(token):
        raise TokenInvalid
    if len(token) > _LONGEST:
        raise TokenInvalid("The token is too long for a cookie; take an integration key: snapshots keys create.")
    await parts.admit_token(token, Right.OPERATE)


def proof_of(token: str) -> str:
    """Of every process the same, and no secret to keep beside the token."""
    return hmac.new(token.encode(), b"csrf of the operations page", hashlib.sha256).hexdigest()


def check_proof(viewer: Viewer, given: str) -> None:
    """Raises Forbidden. No browser adds an Authorization header by itself: there it takes no proof."""
    if viewer.csrf is not None and not hmac.compare_digest(viewer.csrf.encode(), given.encode()):
        raise Forbidden("This form is not from this session. Go back, load the page again and repeat it.")


def check_site(request: Request) -> None:
    """Raises Forbidden where the browser says that another site's page asked.

    https://www.w3.org/TR/fetch-metadata/: sent by all browsers of today to https and to this machine.
    """
    said = request.headers.get("sec-fetch-site")
    if said is not None:
        if said in {"same-origin", "none"}:
            return
    elif (origin := request.headers.get("origin")) is None or _host_of(origin) == request.headers.get("host"):
        return
    raise Forbidden("The form was sent from another site.")


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def keep(response: Response, request: Request, token: str) -> None:
    """Until the browser is closed, or the token expires."""
    response.set_cookie(COOKIE, token, path=ROOT, secure=_is_https(request), httponly=True, samesite="strict")


def forget(response: Response, request: Request) -> None:
    response.delete_cookie(COOKIE, path=ROOT, secure=_is_https(request), httponly=True, samesite="strict")


def _is_https(request: Request) -> bool:
    """Also behind a proxy. Whoever forges the header only keeps the cookie from themselves."""
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return "https" in {request.url.scheme, forwarded}


def next_of(given: str) -> str:
    """Where to go after the login: a path of ours, else the overview."""
    fits = re.fullmatch(rf"{ROOT}(/[A-Za-z0-9/._-]*)?(\?[A-Za-z0-9=&%.:_+-]*)?", given, re.ASCII)
    return given if fits and not given.startswith(LOGIN) else ROOT
