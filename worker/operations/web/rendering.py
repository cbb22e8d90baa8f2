"""Pages from templates: tornado's, which Flower brings along; whatever they show is escaped."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Response
from tornado.template import Loader

from worker.clock import as_utc, to_json
from worker.domain.requests import ACCEPTED
from worker.operations.web.session import CSRF, LOGIN, ROOT, Viewer

_FOLDER = Path(__file__).parents[1]
_loader = Loader(str(_FOLDER / "templates"))
NONE = "\N{EN DASH}"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400

_TABS = {
    "overview": "overview",
    **dict.fromkeys(("requests", "request", "confirm", "redriven"), "requests"),
    **dict.fromkeys(("rejected", "entry"), "rejected"),
}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Forms of ours still say which origin they are from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

ASSETS: Mapping[str, tuple[bytes, str]] = {
    name: ((_FOLDER / "static" / name).read_bytes(), kind)
    for name, kind in (("style.css", "text/css; charset=utf-8"), ("icon.svg", "image/svg+xml"))
}
_VERSION = hashlib.sha256(b"".join(content for content, _ in ASSETS.values())).hexdigest()[:12]


def page(name: str, viewer: Viewer | None, status: int = 200, **values: Any) -> Response:
    """A template's page. `values`: what it shows; its title is a block of it."""
    known = {"viewer": viewer, "version": _VERSION, "root": ROOT, "login": LOGIN, "csrf_field": CSRF, "refresh": None}
    known["tab"] = _TABS.get(name)
    content = _loader.load(f"{name}.html").generate(**{**_HELPERS, **known, **values})
    return Response(content, status, HEADERS, "text/html; charset=utf-8")


def count(number: int) -> str:
    return f"{number:,}"


def moment(when: datetime | None) -> str:
    """To the second, UTC."""
    return f"{as_utc(when):%Y-%m-%d %H:%M:%S}" if when else ""


def duration(seconds: float | None) -> str:
    """In the unit that suits it."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{seconds / size:.1f} {unit}" if whole < 10 and rest else f"{whole:.0f} {unit}"
    return f"{seconds:.1f} s"


def between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds, 0 at least."""
    return max((end - start).total_seconds(), 0.0) if start and end else None


def plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def attempts(entry: Mapping[str, Any]) -> str:
    """How many of this round ended, where it is still known: those that were postponed, and the deciding one."""
    if "acceptedAt" not in entry:
        return NONE
    return str(int(entry.get("attempts") or 0) + (entry["status"] != ACCEPTED))


_HELPERS = {
    "attempts": attempts,
    "count": count,
    "moment": moment,
    "iso": to_json,
    "duration": duration,
    "between": between,
    "plural": plural,
}
