"""The logins that Flower accepts as safe before it starts, and the security headers of its responses."""

import hashlib
import re
import socket
from base64 import b64decode, b64encode
from collections.abc import Mapping


def port_error(address: str, port: int) -> str | None:
    """Return why Flower cannot listen there, or None. Tornado would end with a traceback."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a port is from 0 to 65535"
            return f"cannot listen on {address}:{port}: {reason}. Choose another with --port or FLOWER_PORT"
    return None


def login_error(basic_auth: list[str], auth: str, provider: str | None, oauth: Mapping[str, str | None]) -> str | None:
    """Return why Flower must not start with this login, or None. `oauth`: the provider's settings, by variable name."""
    if basic_auth and auth:
        return "FLOWER_BASIC_AUTH and FLOWER_AUTH are both set, and Flower would ask for both logins: unset one of them"
    if basic_auth:
        if all(re.fullmatch(r"[!-9;-~]+:[ -~]{8,}", login) for login in basic_auth):  # Flower compares ASCII only
            return None
        return "FLOWER_BASIC_AUTH must be name:password, with a password of at least 8 ASCII characters and no comma"
    if not auth:
        return "a login is required: set FLOWER_BASIC_AUTH=name:password, or FLOWER_AUTH for OAuth"
    missing = [name for name, value in {"FLOWER_AUTH_PROVIDER": provider, **oauth}.items() if not value]
    return f"OAuth (FLOWER_AUTH) also needs {', '.join(missing)}" if missing else None


def basic_name(authorization: str) -> str:
    """Return the name in the header of a basic login that Flower has already checked."""
    return b64decode(authorization.split()[1]).decode().partition(":")[0]


def _source_hash(script: str) -> str:
    """Return the source expression that allows this inline script. https://www.w3.org/TR/CSP3/#grammardef-hash-source"""
    return f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


_INLINE_SCRIPTS = tuple(f"\nvar autorefresh = {value};\n" for value in (0, 1))
"""The only inline script of Flower 2.2, in templates/workers.html."""
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' {' '.join(map(_source_hash, _INLINE_SCRIPTS))}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers of every answer of Flower. Styles are not restricted by hash, because its tables set inline styles."""
