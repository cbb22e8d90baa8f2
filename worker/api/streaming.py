"""Answers that may be large, written as they are read: memory holds a slice, whatever the number of snapshots."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import Executor

import bson
from bson.raw_bson import RawBSONDocument
from fastapi import Response
from fastapi.responses import StreamingResponse

from worker.api.answers import DATES_WITHOUT_ZONE, JSON, answer
from worker.connections import Document

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


def _joined(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Small parts together."""
    chunk = bytearray()
    for part in parts:
        chunk += part
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


async def streamed(parts: Iterator[bytes], executor: Executor, headers: Mapping[str, str] | None = None) -> Response:
    """The parts as one answer, read in threads. What is raised before the first part is an answer of its own."""
    loop = asyncio.get_running_loop()
    chunks = _joined(parts)
    first = await loop.run_in_executor(executor, next, chunks, b"")
    second = await loop.run_in_executor(executor, next, chunks, b"")
    if not second:
        return answer(200, first, headers)

    async def rest() -> AsyncIterator[bytes]:
        yield first
        yield second
        while chunk := await loop.run_in_executor(executor, next, chunks, b""):
            yield chunk

    return StreamingResponse(rest(), 200, headers, JSON)
