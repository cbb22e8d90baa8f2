"""A TCP proxy that holds, delays and cuts traffic between clients and servers, and between servers.

Runs as a program: `python -m chaos.proxy CONTROL_PORT '{"0": [LISTEN, TARGET], ...}'`. Commands are lines of JSON on
the control port; each is answered with a line:

    {"rules": [{"source": "1", "target": "0", "hold": true, "delay": 0}], "pids": {"0": 123}}
    {"cut": "redis"}

A link has a source (a server's name, or `client`) and a target. All servers know each other by the proxy's ports,
so that a held link is a network partition: connections stay, nothing arrives, and what was sent arrives later.
"""

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import psutil

CLIENT = "client"


@dataclass(frozen=True)
class Rule:
    """A rule for a link. `source` and `target` are names, or `*` for any."""

    source: str
    target: str
    hold: bool = False
    delay: float = 0.0

    def fits(self, source: str, target: str) -> bool:
        return self.source in {"*", source} and self.target in {"*", target}


class Side(asyncio.Protocol):
    """One end of a proxied connection: what arrives here leaves at the other end."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.transport: Any = None
        self.other: Side | None = None
        self._waiting: list[bytes] = []
        self._due = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connection.made(self)

    def data_received(self, data: bytes) -> None:
        self._waiting.append(data)
        self.flush()

    def flush(self) -> None:
        """Forwards what waits, unless the link is held or the other end is not connected yet."""
        if self.connection.hold:
            self.transport.pause_reading()
            return
        if not self.transport.is_closing():
            self.transport.resume_reading()
        if self.other is None or self.other.transport is None or not self._waiting:
            return
        data, self._waiting = b"".join(self._waiting), []
        loop = asyncio.get_running_loop()
        # Order is kept, also when the delay gets shorter.
        self._due = max(self._due, loop.time() + self.connection.delay)
        if self._due <= loop.time():
            self._pass_on(data)
        else:
            loop.call_at(self._due, self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.connection.lost()


class Connection:
    """A client's connection and the one to the server."""

    def __init__(self, proxy: "Proxy", target: str, port: int) -> None:
        self.proxy, self.target, self.port = proxy, target, port
        self.source = CLIENT
        self.hold, self.delay = False, 0.0
        self.near, self.far = Side(self), Side(self)
        self.near.other, self.far.other = self.far, self.near
        self._opening: asyncio.Task[None] | None = None

    def made(self, side: Side) -> None:
        if side is self.near:
            self.proxy.connections.add(self)
            self.proxy.label([self])
            self.apply()
        side.flush()

    def apply(self) -> None:
        """Applies the current rules."""
        rules = [rule for rule in self.proxy.rules if rule.fits(self.source, self.target)]
        self.hold = any(rule.hold for rule in rules)
        self.delay = max((rule.delay for rule in rules), default=0.0)
        if self.far.transport is None and not self.hold and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        for side in (self.near, self.far):
            if side.transport is not None:
                side.flush()

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, "127.0.0.1", self.port)
        except OSError:
            self.lost()
        else:
            self.near.flush()

    def lost(self) -> None:
        """Closes both ends at once, as the kernel does for a dead process."""
        self.proxy.connections.discard(self)
        for side in (self.near, self.far):
            if side.transport is not None and not side.transport.is_closing():
                side.transport.abort()


class Proxy:
    """All links."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.pids: dict[str, int] = {}
        self.connections: set[Connection] = set()

    def apply(self, order: dict[str, Any]) -> None:
        if "rules" in order:
            self.pids = order.get("pids", {})
            self.rules = [Rule(**each) for each in order["rules"]]
            self.label(self.connections)
            for connection in list(self.connections):
                connection.apply()
        if "cut" in order:
            for connection in [each for each in self.connections if order["cut"] in {"*", each.target}]:
                connection.lost()

    def label(self, connections: Any) -> None:
        """Finds out which connections come from a server, by the ports of its process, if a rule needs it."""
        if not any(rule.source in self.pids for rule in self.rules):
            return
        owners: dict[int, str] = {}
        for name, pid in self.pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                owners |= {each.laddr.port: name for each in psutil.Process(pid).net_connections("tcp")}
        for connection in connections:
            peer = connection.near.transport.get_extra_info("peername")
            connection.source = owners.get(peer[1], CLIENT) if peer else CLIENT


async def serve(control_port: int, links: dict[str, tuple[int, int]]) -> None:
    """Serves until killed."""
    proxy = Proxy()
    loop = asyncio.get_running_loop()
    for name, (listen, target) in links.items():
        await loop.create_server(
            lambda name=name, target=target: Connection(proxy, name, target).near,  # type: ignore[misc]
            "127.0.0.1",
            listen,
        )

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            proxy.apply(json.loads(line))
            writer.write(b"done\n")
        writer.close()

    server = await asyncio.start_server(control, "127.0.0.1", control_port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), json.loads(sys.argv[2])))
