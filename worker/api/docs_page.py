"""The documentation at /docs: Swagger UI, whose files come with the package `fastapi-swagger`, not from a CDN."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.routing import Route

_FILES = {
    name: ((files("fastapi_swagger") / "resources" / name).read_bytes(), content_type)
    for name, content_type in (
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("favicon-32x32.png", "image/png"),
    )
}
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_FOR_A_YEAR = {**_NO_SNIFF, "Cache-Control": "public, max-age=31536000, immutable"}
_VERSION = hashlib.sha256(b"".join(content for content, _ in _FILES.values())).hexdigest()[:12]


def routes(title: str) -> list[Route]:
    """Return the routes of the page and its files.

    Links between them are relative, so that a proxy may add a prefix.
    """
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url=f"docs/swagger-ui-bundle.js?{_VERSION}",
        swagger_css_url=f"docs/swagger-ui.css?{_VERSION}",
        swagger_favicon_url=f"docs/favicon-32x32.png?{_VERSION}",
        swagger_ui_parameters={"displayRequestDuration": True, "validatorUrl": None},
    )
    content = bytes(page.body)
    headers = _security_headers(content)

    async def show_page(_: Request) -> Response:
        return HTMLResponse(content, headers=headers)

    return [
        Route("/docs", show_page, include_in_schema=False),
        *(Route(f"/docs/{name}", _show_file, include_in_schema=False) for name in _FILES),
    ]


async def _show_file(request: Request) -> Response:
    content, content_type = _FILES[request.url.path.rsplit("/", 1)[1]]
    return Response(content, headers=_FOR_A_YEAR, media_type=content_type)


def _security_headers(page: bytes) -> dict[str, str]:
    """Allow the page's own script, and requests to this API only.

    Swagger UI sets style attributes, and has its icons in data URLs.
    """
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    hashes = (f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in scripts)
    policy = (
        f"default-src 'none'; script-src 'self' {' '.join(hashes)}; style-src 'self'; style-src-attr 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        **_NO_SNIFF,
    }
