"""Starts valkey, after cutting a damaged append-only file: `python -m chaos.aof_repair DIR PORT COMMAND ...`.

Valkey 9.1 damages the file by itself: after a full disk cut a write short, a hole of zeros of that length was seen in
a file that a rewrite had begun. It looks as if ftruncate(2) took the end back while the next write continued at the old
position (no O_APPEND; not looked up in its source). At its next start the server ends with "Bad file format".
`valkey-check-aof --fix`, which the wheel does not contain, cuts the file there; so does this program. What is behind
the cut is lost, however long ago it was written.

The server starts on a Unix socket. Before any client can connect, a process notes the time and the last id of the
intake stream in DIR/starts.jsonl, and then opens PORT.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import redis

STREAM = "snapshots:requests"
STARTS = "starts.jsonl"
MESSAGE = "append-only file cut"
_SOCKET = "valkey.sock"
_LONGEST_LINE = 32
_LOAD_SECONDS = 60.0


def damage(data: bytes) -> int | None:
    """Returns where the first broken command begins, or None if all are whole, apart from an end that is cut off.

    https://valkey.io/topics/protocol/ (a command is an array of bulk strings)
    """
    at = 0
    try:
        while at < len(data):
            begin = at
            count, at = _number(data, at, b"*")
            for _ in range(count):
                length, at = _number(data, at, b"$")
                at += length + 2
    except ValueError:
        return begin
    except EOFError:
        pass  # the server removes such an end
    return None


def _number(data: bytes, at: int, kind: bytes) -> tuple[int, int]:
    """Reads the number of a line of this kind, and where the next line begins. Raises ValueError, EOFError."""
    if at >= len(data):
        raise EOFError
    end = data.find(b"\r\n", at, at + _LONGEST_LINE)
    if data[at : at + 1] != kind or (end < 0 and len(data) - at >= _LONGEST_LINE):
        raise ValueError
    if end < 0:
        raise EOFError
    return int(data[at + 1 : end]), end + 2


def repair(folder: Path) -> None:
    """Cuts the newest incremental file at its damage and prints a message."""
    for file in sorted((folder / "appendonlydir").glob("*.incr.aof"))[-1:]:
        data = file.read_bytes()
        if (position := damage(data)) is not None:
            os.truncate(file, position)
            print(f"{MESSAGE}: {file.name} at {position} of {len(data)} bytes", flush=True)


def open_port(port: int, server: int) -> None:
    """Notes what the server has after its start, then opens its port; gives up if the process `server` ends."""
    deadline = time.monotonic() + _LOAD_SECONDS
    with redis.Redis(unix_socket_path=_SOCKET, socket_timeout=5) as broker:
        while time.monotonic() < deadline:
            os.kill(server, 0)
            try:
                now: Any = broker.time()  # an error while it loads its data
                last = broker.xinfo_stream(STREAM)["last-generated-id"].decode() if broker.exists(STREAM) else "0-0"
                with Path(STARTS).open("a") as file:
                    file.write(json.dumps({"at": int(now[0]) * 1000 + int(now[1]) // 1000, "last": last}) + "\n")
                broker.config_set("port", port)
            except redis.RedisError:
                time.sleep(0.01)
            else:
                return


def main(folder: Path, port: int, command: list[str]) -> None:
    """Repairs the file, starts the process that opens the port, and becomes the server."""
    repair(folder)
    os.chdir(folder)  # the path of a Unix socket has to be short
    Path(_SOCKET).unlink(missing_ok=True)
    server = os.getpid()
    if child := os.fork():
        os.waitpid(child, 0)
        os.execv(command[0], [*command, "--port", "0", "--unixsocket", _SOCKET])
    if os.fork() == 0:  # no child of the server, which would wonder about it
        try:
            open_port(port, server)
        finally:
            os._exit(0)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
