"""Real servers, each of them wrong in its own way, and files that a URL may name by mistake."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import redis

from support.certificates import Certificates
from support.mongo_server import own_mongod, secure_mongod
from support.redis_server import free_port, redis_server, running_redis, valkey_server
from worker.settings import Settings

_WRONG_REDIS = {
    "locked": ("--requirepass", "right"),
    "replica": ("--replicaof", "127.0.0.1 1"),
    "cluster": ("--cluster-enabled", "yes"),
    "small": ("--databases", "4"),
    "full": ("--maxmemory", "100kb"),
    "lossy": ("--appendonly", "no"),
    "evicting": ("--maxmemory-policy", "allkeys-lru"),
}


class _OldRedis(socketserver.StreamRequestHandler):
    """Answers as Redis 6.2 does to the commands with which a client begins."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = [self._read_word() for _ in range(int(line[1:]))]
            match words:
                case [b"HELLO", *more]:
                    self.wfile.write(b"%4\r\n" if more else b"*8\r\n")
                    self.wfile.write(b"$5\r\nproto\r\n:3\r\n")
                    self.wfile.write(b"$7\r\nversion\r\n$6\r\n6.2.14\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n")
                    self.wfile.write(b"$4\r\nrole\r\n$6\r\nmaster\r\n")
                case [b"PING"]:
                    self.wfile.write(b"+PONG\r\n")
                case _:
                    self.wfile.write(b"-ERR unknown command\r\n")

    def _read_word(self) -> bytes:
        return self.rfile.read(int(self.rfile.readline()[1:]) + 2).strip().upper()


@contextlib.contextmanager
def wrong_servers(folder: Path, settings: Settings) -> Iterator[dict[str, str]]:
    """Start the servers. Yields the addresses and paths that the table of wrong environments names in braces."""
    made = Certificates(folder)
    (folder / "empty.pem").write_text("no certificate\n")
    (folder / "file").touch()
    (folder / "list.json").write_text("[]")
    words = {name: str(folder / name) for name in ("empty.pem", "file", "list.json", "missing")}
    words |= {"folder": str(folder), "ca": str(made.ca), "stranger": str(made.stranger)}
    words |= {"client": str(made.client), "both": str(made.together("client"))}
    words |= {"mongo": settings.mongo_url.split("/")[2], "redis": f"127.0.0.1:{settings.redis.port}"}
    with contextlib.ExitStack() as stack:
        for name, options in (("standalone", ()), ("uninitiated", ("--replSet", "rs0"))):
            (folder / name).mkdir()
            words[name] = f"127.0.0.1:{stack.enter_context(own_mongod(folder / name, *options))}"
        (folder / "secure").mkdir()
        words["secure"] = stack.enter_context(secure_mongod(folder / "secure", made))
        for name, options in _WRONG_REDIS.items():
            words[name] = _start_redis(stack, folder / name, *options)
        words["limited"] = _start_redis(stack, folder / "limited")
        with redis.Redis.from_url(f"redis://{words['limited']}") as client:
            rules = ["on", ">pw", "allkeys", "allchannels", "+@all", "-xadd", "-brpop"]
            client.execute_command("ACL", "SETUSER", "limited", *rules)
        if binary := redis_server():  # the embedded one has no TLS
            words["tls"] = _start_tls(stack, binary, folder / "tls", made)
        words["sentinel"] = _start_sentinel(stack, folder / "sentinel", settings.redis.port)
        old = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldRedis))
        stack.callback(old.shutdown)
        threading.Thread(target=old.serve_forever).start()
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        words["taken"] = str(taken.getsockname()[1])
        words["old"] = f"127.0.0.1:{old.server_address[1]}"
        yield words


def _start_redis(stack: contextlib.ExitStack, folder: Path, *options: str) -> str:
    folder.mkdir()
    port = free_port()
    argv = [valkey_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
    if "--cluster-enabled" in options:
        options = (*options, "--cluster-port", str(free_port()))
    stack.enter_context(running_redis([*argv, *options], folder, port))
    return f"127.0.0.1:{port}"


def _start_tls(stack: contextlib.ExitStack, binary: str, folder: Path, made: Certificates) -> str:
    folder.mkdir()
    port = free_port()
    options = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(made.ca)]
    options += ["--tls-cert-file", str(made.server), "--tls-key-file", str(made.server_key), "--save", ""]
    stack.enter_context(running_redis([binary, *options, "--appendonly", "yes"], folder, port))
    return f"127.0.0.1:{port}"


def _start_sentinel(stack: contextlib.ExitStack, folder: Path, redis_port: int) -> str:
    folder.mkdir()
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {redis_port} 1\n")
    stack.enter_context(running_redis([valkey_server(), str(config), "--sentinel"], folder, port))
    return f"127.0.0.1:{port}"
