"""Answers that may be large, written as they are read: memory holds a slice, whatever the number of snapshots."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor

import bson
from bson.raw_bson import RawBSONDocument
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from worker.api.responses import DATES_WITHOUT_ZONE, JSON, answer
from worker.stores.connections import Document

_SLICE_BYTES = 1_000_000
_SLICE_COUNT = 200
_CHUNK_BYTES = 256 * 1024


def slices(cursor: Iterable[RawBSONDocument]) -> Iterator[list[Document]]:
    """Documents, as many at a time as are a megabyte."""
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
    """Small parts together."""
    chunk = bytearray()
    for part in parts:
        chunk += part
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


class _Chunks:
    """The parts joined, for threads: one at a time reads, or ends the reading."""

    def __init__(self, parts: Generator[bytes]) -> None:
        self._parts = parts
        self._joined = _joined(parts)
        self._lock = threading.Lock()

    def next(self) -> bytes:
        """The next one; nothing once there is none."""
        with self._lock:
            return next(self._joined, b"")

    def close(self) -> None:
        """Ends the reading, and closes the cursor behind it."""
        with self._lock:
            self._joined.close()
            self._parts.close()


class _Streamed(StreamingResponse):
    """Ends the reading when the client goes away: else the cursor would be open until MongoDB's time is over."""

    def __init__(self, chunks: _Chunks, first: Sequence[bytes], executor: Executor, headers: Mapping[str, str]) -> None:
        self._chunks = chunks
        self._first = first
        self._executor = executor
        super().__init__(self._all(), 200, headers, JSON)

    async def _all(self) -> AsyncIterator[bytes]:
        for chunk in self._first:
            yield chunk
        loop = asyncio.get_running_loop()
        while chunk := await loop.run_in_executor(self._executor, self._chunks.next):
            yield chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._executor.submit(self._chunks.close)  # not awaited: this task may be cancelled


async def streamed(parts: Generator[bytes], executor: Executor, headers: Mapping[str, str] | None = None) -> Response:
    """The parts as one answer, read in threads. What is raised before the first part is an answer of its own."""
    loop = asyncio.get_running_loop()
    chunks = _Chunks(parts)
    first = await loop.run_in_executor(executor, chunks.next)
    second = await loop.run_in_executor(executor, chunks.next)
    if not second:
        return answer(200, first, headers)
    return _Streamed(chunks, (first, second), executor, headers or {})
