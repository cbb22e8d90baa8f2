"""Starts valkey as an operator would who finds its append-only file damaged.

    python -m chaos.aof_repair DIR COMMAND ...

Valkey 9.1 damages it by itself: where a full disk cut a write short, a hole of zeros of that length was seen in a file
that a rewrite had begun, as if the end were taken back by ftruncate(2) but the next write went to where the last one
ended (no O_APPEND; not looked up in its source). At its next start the server ends with "Bad file format".
`valkey-check-aof --fix`, which the wheel does not have, cuts the file there; so does this. What is behind the cut is
lost, however long ago it was written.
"""

import os
import sys
from pathlib import Path

SAID = "append-only file cut"
_LONGEST_LINE = 32


def damage(data: bytes) -> int | None:
    """Where the first command begins that is none; None where all is sound, but for an end that is cut.

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
        pass  # the server cuts such an end by itself
    return None


def _number(data: bytes, at: int, kind: bytes) -> tuple[int, int]:
    """The number of a line that begins so, and where the next begins. Raises ValueError, EOFError."""
    if at >= len(data):
        raise EOFError
    end = data.find(b"\r\n", at, at + _LONGEST_LINE)
    if data[at : at + 1] != kind or (end < 0 and len(data) - at >= _LONGEST_LINE):
        raise ValueError
    if end < 0:
        raise EOFError
    return int(data[at + 1 : end]), end + 2


def mend(folder: Path) -> None:
    """Cuts the newest incremental file at its damage, and says so on standard output."""
    for file in sorted((folder / "appendonlydir").glob("*.incr.aof"))[-1:]:
        data = file.read_bytes()
        if (found := damage(data)) is not None:
            os.truncate(file, found)
            print(f"{SAID}: {file.name} at {found} of {len(data)} bytes", flush=True)


if __name__ == "__main__":
    mend(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
