"""Reads the body of a request, with limits on its size and on the time that it takes."""

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from worker.api.responses import BodyTooLarge
from worker.errors import InvalidRequest

_MAX_SECONDS = 30
"""Time within which the whole body has to arrive, so that no client occupies a connection by sending slowly."""
_SMALL = 65_536
"""Up to this size in bytes, a body is parsed in the event loop, because handing it to a thread would take longer."""


def is_small(request: Request) -> bool:
    """Return whether Content-Length says that the body is small. Without that header the body counts as large."""
    declared = request.headers.get("content-length", "")
    return declared.isdecimal() and int(declared[:20]) <= _SMALL


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read the whole body. Raises BodyTooLarge before it is in memory, InvalidRequest, ClientDisconnect."""
    if (encoding := request.headers.get("content-encoding", "identity")).lower() != "identity":
        raise _invalid("Content-Encoding", f"should be omitted; {encoding[:20]} is not supported")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(_MAX_SECONDS):
            more = True
            while more and len(body) <= max_bytes:
                part, more = await _receive(request)
                body += part
    except TimeoutError:
        raise _invalid("body", f"should arrive within {_MAX_SECONDS} s") from None
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return bytes(body)


async def _receive(request: Request) -> tuple[bytes, bool]:
    """Return the next part of the body, and whether more follows."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body should have at most {max_bytes} bytes.")


def _invalid(field: str, fault: str) -> InvalidRequest:
    return InvalidRequest([{"field": field, "message": fault}])
