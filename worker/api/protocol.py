"""HTTP connections with limits on their number, on the time and size of a request's head, and on unread answers.

uvicorn limits none of them. https://www.uvicorn.org/settings/ names `http` as the place for a protocol class.
"""

import asyncio
import json
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from worker.log import get_logger

log = get_logger(__name__)

_HEAD_SECONDS = 10.0
"""Seconds within which the head of a request must arrive: for the first request after the connection is made, for later
ones after their first byte."""
_MAX_HEAD = 65_536
"""Maximum size of an incomplete head, in bytes."""
_REST_SECONDS = 5.0
"""Seconds for the rest of a body after the answer. Closing at once could keep a client from reading the answer."""
_UNREAD_SECONDS = 60.0
"""Seconds within which the client must read some of an answer that waits to be sent. The kernel buffers up to a few MB
and accepts more only once a third of that has been read."""
_LOG_SECONDS = 10.0
"""Seconds between two log records of refused connections."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. If there are too many, a new one replaces the one that has waited longest for its client.

    A connection waits for its client while it is idle, while a body is incomplete, or while an answer is unread.
    """

    max_connections = 1000
    _logged_at = -_LOG_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._waiting_since = time.monotonic()
        self._head_bytes = 0
        self._head_is_complete = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and not self._make_room():
            message = "The server has too many connections. Try again later."
            self._refuse(503, "Service Unavailable", "too_many_connections", message)
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_rest_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waiting_since = time.monotonic()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        self._stop_unread_timer()
        super().resume_writing()
        self._watch_unsent()

    def data_received(self, data: bytes) -> None:
        self._message_ended = False
        super().data_received(data)
        if self._head_is_complete:
            return
        self._start_head_timer()
        if self._message_ended:
            return  # Only the end of these bytes belongs to the head: the client sends requests without waiting.
        self._head_bytes += len(data)
        if self._head_bytes > _MAX_HEAD:
            message = f"The head of a request should have at most {_MAX_HEAD} bytes."
            self._refuse(431, "Request Header Fields Too Large", "head_too_large", message)

    def on_message_begin(self) -> None:
        self._head_is_complete = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Fields that follow a chunked body are dropped, because no proxy has checked them.

        https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1
        """
        if not self._head_is_complete:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        if not self.flow.write_paused:
            self._stop_unread_timer()  # more will be written
        self._waiting_since = time.monotonic()
        self._head_is_complete = True
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._message_ended = True
        self._stop_rest_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP/1.1, or have an ambiguous length, and close."""
        self._refuse(400, "Bad Request", "invalid_http", "The request is not valid HTTP: see RFC 9112.")

    def on_response_complete(self) -> None:
        self._waiting_since = time.monotonic()
        # Another request may be waiting in the pipeline, whose body has all its time.
        is_incomplete = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if is_incomplete:
            self._rest_timer = self.loop.call_later(_REST_SECONDS, self.transport.abort)
        self._watch_unsent()

    def _is_idle(self) -> bool:
        """Return whether it is open and has no request that is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return not self.transport.is_closing() and (cycle is None or cycle.response_complete)

    def _waits_for_client(self) -> bool:
        """Return whether nothing happens on it until its client sends or reads something."""
        if self.transport.is_closing():
            return False
        if self._is_idle() or self.flow.write_paused:
            return True
        server_reads = not self.flow.read_paused and not self.cycle.waiting_for_100_continue
        return self.cycle.more_body and server_reads and not self.pipeline

    def _make_room(self) -> bool:
        """Close connections that wait for their clients until there is room for another; return whether there is."""
        others = [each for each in self.connections if isinstance(each, LimitedProtocol) and each is not self]
        excess = sum(not each.transport.is_closing() for each in others) + 1 - self.max_connections
        waiting = [each for each in others if each._waits_for_client()]
        waiting.sort(key=lambda each: each._waiting_since)
        for connection in waiting[: max(excess, 0)]:
            connection.transport.abort()
        return len(waiting) >= excess

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_rest_timer(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _watch_unsent(self) -> None:
        """Start the timer once nothing more will be written, because closing waits without limit for unsent bytes."""
        if self._unread_timer is None and (self._is_idle() or self.transport.is_closing()):
            self._start_unread_timer()

    def _start_unread_timer(self) -> None:
        self._stop_unread_timer()
        if unsent := self.transport.get_write_buffer_size():
            self._unread_timer = self.loop.call_later(_UNREAD_SECONDS, self._unread_timeout, unsent)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _unread_timeout(self, unsent: int) -> None:
        """Abort if as much is unsent as before, although nothing was added."""
        self._unread_timer = None
        if self.transport.get_write_buffer_size() < unsent:
            self._start_unread_timer()
        else:
            self.transport.abort()

    def _head_timeout(self) -> None:
        if self._head_bytes:
            message = f"The head of a request should arrive within {_HEAD_SECONDS:g} s."
            self._refuse(408, "Request Timeout", "head_timeout", message)
        elif not self.transport.is_closing():
            self.transport.close()
            self._watch_unsent()

    def _refuse(self, status: int, phrase: str, code: str, message: str) -> None:
        """Answer without a request, and close."""
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        body = json.dumps({"success": False, "message": message, "code": code, "errors": []}).encode()
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}cache-control: no-store\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()
        self._watch_unsent()
        if time.monotonic() - LimitedProtocol._logged_at > _LOG_SECONDS:
            LimitedProtocol._logged_at = time.monotonic()
            log.warning("http_connection_refused", code=code, status=status, connections=len(self.connections))
