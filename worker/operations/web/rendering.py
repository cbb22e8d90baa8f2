"""Renders the templates. Jinja2 escapes every value."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from worker.clock import to_json
from worker.operations.data.login_links import PATH as LOGIN_LINK
from worker.operations.web import formats
from worker.operations.web.csrf import CSRF_FIELD
from worker.operations.web.session import LOGIN, ROOT, Viewer

_FOLDER = Path(__file__).parents[1]

_TABS = {
    **dict.fromkeys(("overview", "overview_pending"), "overview"),
    **dict.fromkeys(("requests", "request", "confirm", "redriven"), "requests"),
    **dict.fromkeys(("rejected", "entry"), "rejected"),
    **dict.fromkeys(("jobs", "job", "end_job"), "jobs"),
}
"""The tab in the page's header, by template."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Our own forms still say which origin they come from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

ASSETS: Mapping[str, tuple[bytes, str]] = {
    name: ((_FOLDER / "static" / name).read_bytes(), content_type)
    for name, content_type in (("style.css", "text/css; charset=utf-8"), ("icon.svg", "image/svg+xml"))
}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=formats.number,
        timestamp=formats.timestamp,
        iso=to_json,
        duration=formats.duration,
        size=formats.size,
        words=formats.words,
    )
    environment.globals.update(
        plural=formats.plural,
        attempts=formats.attempts,
        seconds_taken=formats.seconds_taken,
        root=ROOT,
        login=LOGIN,
        login_link=LOGIN_LINK,
        csrf_field=CSRF_FIELD,
        assets_version=hashlib.sha256(b"".join(content for content, _ in ASSETS.values())).hexdigest()[:12],
    )
    return environment


_ENVIRONMENT = _environment()


def render(template: str, viewer: Viewer | None, status: int = 200, **values: Any) -> Response:
    """Render `templates/<template>.html`. `viewer` is None where no one is logged in."""
    shared = {"viewer": viewer, "tab": _TABS.get(template), "refresh": None}
    content = _ENVIRONMENT.get_template(f"{template}.html").render(**{**shared, **values})
    return Response(content, status, HEADERS, "text/html; charset=utf-8")
