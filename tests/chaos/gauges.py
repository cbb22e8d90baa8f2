"""Measures memory and MongoDB connections of the processes every few seconds."""

import contextlib
import threading
from collections.abc import Collection, Iterator

import psutil

from chaos.system import System

_LOOK_SECONDS = 5.0
_SETTLED_LOOKS = 12
"""The first minute does not count as growth: imports, pools and caches fill."""


class Gauges:
    """One thread. Values are by process name; a pool process has its worker's."""

    def __init__(self, system: System, mongo_ports: Collection[int]) -> None:
        self._system = system
        self._ports = mongo_ports
        self._memory: dict[str, list[int]] = {}
        self._connections: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yields rows of the result table."""
        for name, seen in sorted(self._memory.items()):
            settled = seen[_SETTLED_LOOKS:] or seen
            grown = f"{_mb(settled[0])} to {_mb(settled[-1])}, most {_mb(max(seen))} MB"
            # The connections of a process in another network namespace are not seen from here.
            count = self._connections.get(name)
            yield f"memory of {name}", grown + (f"; at most {count} connections to MongoDB" if count else "")

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            for name, child in self._system.children.items():
                if not child.running:
                    continue
                with contextlib.suppress(psutil.Error):
                    parent = psutil.Process(child.pid)
                    self._note(name, parent)
                    for process in parent.children():
                        self._note(f"{name}'s pool process", process)

    def _note(self, name: str, process: psutil.Process) -> None:
        self._memory.setdefault(name, []).append(process.memory_info().rss)
        count = sum(bool(each.raddr) and each.raddr.port in self._ports for each in process.net_connections("tcp"))
        self._connections[name] = max(self._connections.get(name, 0), count)


def _mb(size: int) -> int:
    return round(size / 1024 / 1024)
