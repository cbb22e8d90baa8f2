"""A TLS server that is not Redis and records what its clients send once they have accepted its certificate."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Recorder:
    """What has arrived so far."""

    port: int
    connections: int = 0
    received: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        return b"".join(self.received)


@contextlib.contextmanager
def recording(certificate: Path, key: Path) -> Iterator[Recorder]:
    """Listen with this certificate until the block ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        recorder = Recorder(listener.getsockname()[1])
        thread = threading.Thread(target=_accept, args=(listener, context, recorder), daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _accept(listener: socket.socket, context: ssl.SSLContext, recorder: Recorder) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # the block has ended
        recorder.connections += 1
        connection.settimeout(2)
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as encrypted:
            while data := encrypted.recv(4096):
                recorder.received.append(data)
                if data.startswith(b"*"):
                    encrypted.sendall(b"-ERR not Redis\r\n")
