"""Reads the intake stream all along, past the proxy: the evidence for what Redis had and can have lost.

It sees each entry within moments of its XADD, even if the producer got no answer. Several times a second it notes which
have been acknowledged. The starts of the server are in a file that `aof_repair` writes.
"""

import json
import threading
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chaos.intake_losses import NONE, Acknowledged, Loss, entry_id
from chaos.journal import tokens_in
from worker.stores.wakeups import REQUEST_QUEUES

STREAM, GROUP = "snapshots:requests", "snapshots"
_BLOCK_MS = 100
_LOOK_SECONDS = 0.25
_COUNT = 2000
_MOST_PENDING = 5000


class Witness:
    """One thread. `seen` maps a request's token (its tag) to the id of its entry.

    `violations` says why it ended, if it ended too early: what it did not see would be excused.
    """

    def __init__(self, port: int, starts: Path) -> None:
        """`starts`: the file that lists the starts of the server."""
        self._port, self._starts = port, starts
        self.seen: dict[str, str] = {}
        self.violations: list[str] = []
        self._acknowledged: list[tuple[int, Acknowledged]] = [(0, Acknowledged())]
        """Milliseconds by Redis's clock, and what had been acknowledged by then."""
        self._outages: list[tuple[float, float]] = []
        """When it read the stream last, and when the connection broke."""
        self._flushes: list[Loss] = []
        self._read_at = time.time()
        self._last = "0-0"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reporting, daemon=True, name="witness")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def flush(self) -> None:
        """FLUSHALL, noting in the same transaction what had been acknowledged, and the Celery messages."""
        with self._client() as broker:
            at, acknowledged, messages = self._look(broker, flush=True)
        self._flushes.append(Loss(at, NONE, acknowledged, self._read_at, time.time(), messages))

    def unsettled(self) -> int:
        """How many entries of the stream are not acknowledged. Raises RedisError."""
        with self._client() as broker:
            groups: Any = broker.xinfo_groups(STREAM)
            mine = next(each for each in groups if each["name"] == GROUP.encode())
            return int(mine["pending"]) + int(mine["lag"] or 0)

    def losses(self) -> list[Loss]:
        """Flushes, and all starts of the server but the first."""
        losses = list(self._flushes)
        lines = [json.loads(line) for line in self._starts.read_text().splitlines()]
        for line in lines[1:]:
            at = int(line["at"])
            outages = [each for each in self._outages if each[1] <= at / 1000 + 0.1]
            read_at, gone_at = outages[-1] if outages else (0.0, at / 1000)
            losses.append(Loss(at, entry_id(line["last"]), self._acknowledged_before(at), read_at, gone_at))
        return sorted(losses, key=lambda loss: loss.at)

    def _acknowledged_before(self, at: int) -> Acknowledged:
        place = bisect_left(self._acknowledged, at, key=lambda seen: seen[0])
        return self._acknowledged[max(0, place - 1)][1]

    def _client(self) -> "redis.Redis":
        # Without retries, which would hide when the connection broke.
        return redis.Redis(port=self._port, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    # --- the thread -----------------------------------------------------------------------------------------

    def _reporting(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self.violations.append(f"the witness ended: {type(error).__name__}: {error}")
            raise

    def _watch(self) -> None:
        broken = False
        while not self._stop.is_set():
            try:
                with self._client() as broker:
                    self._follow(broker)
            except redis.ResponseError:  # it loads its data, or refuses
                self._stop.wait(0.02)
                continue
            except redis.RedisError:
                now = time.time()
                if not broken or self._read_at > self._outages[-1][1]:
                    self._outages.append((self._read_at, now))
                broken = True
                self._stop.wait(0.02)

    def _is_current(self) -> bool:
        """Whether this is still the server to read from."""
        return True

    def _follow(self, broker: "redis.Redis") -> None:
        look_at = 0.0
        while not self._stop.is_set() and self._is_current():
            reply: Any = broker.xread({STREAM: self._last}, _COUNT, _BLOCK_MS)
            self._read_at = time.time()
            for key, fields in _entries(reply):
                self._last = key.decode()
                self._note(self._last, fields)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_SECONDS
                self._look(broker)

    def _note(self, key: str, fields: dict[bytes, bytes]) -> None:
        try:
            token = json.loads(fields[b"data"])["tags"][0]
        except (KeyError, IndexError, TypeError, ValueError, RecursionError):
            return  # a closing, or an entry that a fault added
        if isinstance(token, str):
            self.seen.setdefault(token, key)

    def _look(self, broker: "redis.Redis", *, flush: bool = False) -> tuple[int, Acknowledged, frozenset[str]]:
        """Notes the time and what has been acknowledged; with `flush`, returns the tokens of the messages, too."""
        with broker.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.xinfo_groups(STREAM)
            pipeline.xpending_range(STREAM, GROUP, "-", "+", _MOST_PENDING)
            if flush:
                for queue in REQUEST_QUEUES:
                    pipeline.lrange(queue, 0, -1)
                pipeline.hvals("unacked")
                pipeline.flushall()
            now, groups, pages, *others = pipeline.execute(raise_on_error=False)
        messages = [message for each in others if isinstance(each, list) for message in each]
        at, known = int(now[0]) * 1000 + int(now[1]) // 1000, self._acknowledged[-1][1]
        if isinstance(groups, list) and isinstance(pages, list):
            pending = frozenset(entry_id(page["message_id"].decode()) for page in pages)
            for group in groups:
                if group["name"] == GROUP.encode():
                    delivered = entry_id(group["last-delivered-id"].decode())
                    # Those beyond a full page are not known.
                    known = known.after(max(pending) if len(pages) == _MOST_PENDING else delivered, pending)
        if known != self._acknowledged[-1][1]:
            self._acknowledged.append((at, known))
        return at, known, frozenset(token for message in messages for token in tokens_in(message))


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of XREAD's reply, in both shapes that redis-py has."""
    if isinstance(reply, dict):
        return [entry for pages in reply.values() for page in pages for entry in page]
    return list(reply[0][1]) if reply else []
