"""A connection ends although its client does not read the rest of an answer, also while it is being closed."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from support.waiting import eventually
from worker.api import protocol
from worker.api.protocol import LimitedProtocol

BODY = b"x" * 50_000
"""More than the kernel takes with small buffers, and less than the 64 KB at which the server would stop writing."""


async def answer(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


@contextmanager
def serving() -> Iterator[tuple[uvicorn.Server, tuple[str, int]]]:
    """A server whose connections have small buffers."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    config = uvicorn.Config(answer, http=LimitedProtocol, lifespan="off", log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        eventually(lambda: server.started)
        yield server, listening.getsockname()
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()


@pytest.mark.parametrize("ending", ["close", "keep-alive"])
def test_connection_whose_client_leaves_an_answer_unread_ends(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(protocol, "_UNREAD_SECONDS", 0.5)
    with serving() as (server, address), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address)
        client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: {ending}\r\n\r\n".encode())
        eventually(lambda: server.server_state.total_requests == 1)
        eventually(lambda: not server.server_state.connections, 10)


def test_slow_reader_gets_all_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_UNREAD_SECONDS", 2.0)
    with serving() as (server, address), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(address)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while more := client.recv(1000):
            received += more
            time.sleep(0.05)  # a slow reader
        assert received.endswith(BODY)
        assert server.server_state.total_requests == 1
