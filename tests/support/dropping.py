"""A TCP forwarder that can swallow a server's answers and cut the line, as a network does at its worst moment."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Line:
    """Forwards connections to a server."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._swallow = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self, word: bytes, count: int = 1) -> None:
        """The next `count` requests that hold `word` reach the server; their answers reach no one."""
        self._word, self._swallow = word, count

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                threading.Thread(target=self._forward, args=(near, far), daemon=True).start()
                threading.Thread(target=self._copy, args=(far, near), daemon=True).start()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                if self._is_swallowed(data):
                    near.shutdown(socket.SHUT_RDWR)  # the client sees the end before the server's answer
                    far.sendall(data)
                    break
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def _is_swallowed(self, data: bytes) -> bool:
        with self._lock:
            if self._swallow and self._word in data:
                self._swallow -= 1
                return True
            return False

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            each.close()

    def close(self) -> None:
        self._listening.close()


@contextlib.contextmanager
def line_to(url: str) -> Iterator[tuple[Line, str]]:
    """The line and the URL through it."""
    parts = urlsplit(url)
    line = Line((parts.hostname or "127.0.0.1", parts.port or 6379))
    try:
        yield line, parts._replace(netloc=f"127.0.0.1:{line.port}").geturl()
    finally:
        line.close()
