"""Protection against forged requests.

A browser sends the cookie with every request, even if another site caused it. Therefore a request that changes
something must contain a token that only our pages know, and must not come from another site.
"""

import hashlib
import hmac
from urllib.parse import urlsplit

from fastapi import Request

from worker.api.responses import Forbidden

CSRF_FIELD = "csrf"


def csrf_token(session: str) -> str:
    """Derive the token from the session's secret. All processes derive the same token, so none is stored."""
    return hmac.new(session.encode(), b"csrf of the operations page", hashlib.sha256).hexdigest()


def check_csrf(expected: str | None, given: str) -> None:
    """Raise Forbidden for a wrong token.

    `expected` is None without a cookie, because then no other site can forge the request.
    """
    if expected is not None and not hmac.compare_digest(expected.encode(), given.encode()):
        raise Forbidden("The form does not belong to this session. Go back, reload the page, and submit it again.")


def check_same_site(request: Request) -> None:
    """Raise Forbidden if the browser says that the request comes from another site.

    Current browsers send Sec-Fetch-Site over https and to the local machine. https://www.w3.org/TR/fetch-metadata/
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site in {"same-origin", "none"}:
            return
    elif (origin := request.headers.get("origin")) is None or _host_of(origin) == request.headers.get("host"):
        return
    raise Forbidden("The form was sent from another site. Open the operations pages directly and submit it there.")


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
