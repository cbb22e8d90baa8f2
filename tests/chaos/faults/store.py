"""MongoDB: elections, dead members, partitions, slowness."""

import contextlib
import signal
from typing import Any

from pymongo.errors import AutoReconnect

from chaos.context import Arena
from chaos.proxy import CLIENT
from chaos.servers import ELECTION_SECONDS, MEMBERS
from chaos.system import send_signal

_SLOW_SECONDS = 8.0


def step_down(arena: Arena) -> str:
    """The primary hands over."""
    with arena.store_disturbed():
        primary = arena.servers.primary()
        with arena.servers.member(primary) as client, contextlib.suppress(AutoReconnect):
            arena.strike()
            client.admin.command("replSetStepDown", 8, secondaryCatchUpPeriodSecs=3)
        arena.servers.primary()
    return primary


def kill_primary(arena: Arena) -> str:
    with arena.store_disturbed():
        return _kill(arena, arena.servers.primary())


def kill_secondary(arena: Arena) -> str:
    with arena.store_disturbed():
        primary = arena.servers.primary()
        return _kill(arena, arena.dice.choice([name for name in MEMBERS if name != primary]))


def partition_primary(arena: Arena) -> str:
    """From the other members alone: clients still reach it, and what it writes meanwhile rolls back."""
    return _partition(arena, clients=False)


def isolate_primary(arena: Arena) -> str:
    """From everyone: connections stay, and nothing gets through."""
    return _partition(arena, clients=True)


def slow_mongo(arena: Arena) -> str:
    """60 ms each way between clients and members."""
    with arena.servers.links(*({"source": CLIENT, "target": name, "delay": 0.06} for name in MEMBERS)):
        arena.pause(_SLOW_SECONDS)
    return "120 ms a round trip"


def _kill(arena: Arena, name: str) -> str:
    send_signal(arena.servers.members[name].pid, signal.SIGKILL)
    arena.strike(kills=1)
    arena.pause(1.0)
    arena.servers.primary()
    return name


def _partition(arena: Arena, clients: bool) -> str:
    with arena.store_disturbed():
        primary = arena.servers.primary()
        before = arena.servers.rollbacks()
        others = [name for name in MEMBERS if name != primary]
        links = [(primary, other) for other in others] + [(other, primary) for other in others]
        if clients:
            links.append((CLIENT, primary))
        rules: list[dict[str, Any]] = [{"source": one, "target": two, "hold": True} for one, two in links]
        with arena.servers.links(*rules):
            arena.pause(3 * ELECTION_SECONDS + 3)
        # Links that were held for so long have been given up; a fresh start is what a mended network gives.
        arena.pause(1.0)
        arena.servers.primary(90)
        return f"{primary}, {arena.servers.rollbacks() - before} rollbacks"
