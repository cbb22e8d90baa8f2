"""A TCP forwarder that drops replies and closes the connection, or goes silent, as a failing network does."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Forwarder:
    """Forwards connections to a server."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._swallow = 0
        self._count = self._silenced = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self, word: bytes, count: int = 1) -> None:
        """Deliver the next `count` requests that contain `word` to the server, and drop the replies."""
        self._word, self._swallow = word, count

    @property
    def expects(self) -> int:
        """How many requests that are to be swallowed have not come yet."""
        return self._swallow

    def silence(self) -> None:
        """Drop everything sent on the existing connections, but keep them open. New connections work."""
        self._silenced = self._count

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                self._count += 1
                for work, ends in ((self._forward, (near, far)), (self._copy, (far, near))):
                    threading.Thread(target=work, args=(self._count, *ends), daemon=True).start()

    def _forward(self, number: int, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                if number <= self._silenced:
                    continue
                if self._is_swallowed(data):
                    near.shutdown(socket.SHUT_RDWR)  # the client sees the connection end before a reply can arrive
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

    def _copy(self, number: int, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if number > self._silenced:
                    sink.sendall(data)
        for each in (source, sink):
            each.close()

    def close(self) -> None:
        self._listening.close()


@contextlib.contextmanager
def forwarder_to(url: str) -> Iterator[tuple[Forwarder, str]]:
    """Start a forwarder to the server of a URL. Yields it and the URL that leads through it.

    The requests that it is to swallow must have come by the end of the block.
    """
    parts = urlsplit(url)
    forwarder = Forwarder((parts.hostname or "127.0.0.1", parts.port or 6379))
    try:
        yield forwarder, parts._replace(netloc=f"127.0.0.1:{forwarder.port}").geturl()
    finally:
        forwarder.close()
    assert not forwarder.expects, f"{forwarder.expects} requests that were to be swallowed have not come"
