"""Streams large responses while they are read, so that memory holds only a part, however many snapshots there are."""

import threading
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence

import bson
from bson.raw_bson import RawBSONDocument
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from worker.api.responses import DATES_WITHOUT_ZONE, JSON, json_response
from worker.api.threads import Threads
from worker.stores.connections import Document

_SLICE_BYTES = 1_000_000
_SLICE_COUNT = 200
_CHUNK_BYTES = 256 * 1024


def slices(cursor: Iterable[RawBSONDocument]) -> Iterator[list[Document]]:
    """Group documents into slices of about a megabyte."""
    slice_: list[Document] = []
    size = 0
    for raw in cursor:
        slice_.append(bson.decode(raw.raw, DATES_WITHOUT_ZONE))
        size += len(raw.raw)
        if size >= _SLICE_BYTES or len(slice_) >= _SLICE_COUNT:
            yield slice_
            slice_, size = [], 0
    if slice_:
        yield slice_


def _joined(parts: Iterator[bytes]) -> Generator[bytes]:
    """Join small parts into larger chunks."""
    chunk = bytearray()
    for part in parts:
        chunk += part
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


class _Chunks:
    """The joined parts, for use by several threads: a lock lets one thread at a time read, or end the reading."""

    def __init__(self, parts: Generator[bytes]) -> None:
        self._parts = parts
        self._joined = _joined(parts)
        self._lock = threading.Lock()

    def next(self) -> bytes:
        """Return the next chunk; it is empty at the end."""
        with self._lock:
            return next(self._joined, b"")

    def close(self) -> None:
        """End the reading and close its cursor."""
        with self._lock:
            self._joined.close()
            self._parts.close()


class _ChunkedResponse(StreamingResponse):
    """A response that ends the reading when the client disconnects.

    Otherwise the cursor would stay open until it times out.
    """

    def __init__(self, chunks: _Chunks, first: Sequence[bytes], threads: Threads, headers: Mapping[str, str]) -> None:
        self._chunks = chunks
        self._first = first
        self._threads = threads
        super().__init__(self._all(), 200, headers, JSON)

    async def _all(self) -> AsyncIterator[bytes]:
        for chunk in self._first:
            yield chunk
        while chunk := await self._threads.run(self._chunks.next):
            yield chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._threads.executor.submit(self._chunks.close)  # not awaited: this task may be cancelled


async def streamed(parts: Generator[bytes], threads: Threads, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response that streams the parts, read in threads. Raises the errors of reading the first chunks."""
    chunks = _Chunks(parts)
    first = await threads.run(chunks.next)
    second = await threads.run(chunks.next)
    if not second:
        return json_response(200, first, headers)
    return _ChunkedResponse(chunks, (first, second), threads, headers or {})
