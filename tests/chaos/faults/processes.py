"""Processes that die, stop, or hang."""

import signal
import time
from collections.abc import Sequence

from chaos.context import Arena
from chaos.crashpoints import POINTS
from chaos.system import send_signal
from worker.local.processes import Child

_REACHED_SECONDS = 3.0
_BACK_SECONDS = 40.0
_ZOMBIE_SECONDS = 30.0
_HANG_SECONDS = 8


def kill_worker(arena: Arena) -> str:
    """SIGKILL to a worker's parent, which takes its pool with it."""
    return _kill(arena, "worker")


def kill_worker_child(arena: Arena) -> str:
    """SIGKILL to a pool process alone."""
    worker = arena.dice.choice(arena.system.named("worker"))
    pool = arena.system.pool_of(worker)
    if not pool or not send_signal(arena.dice.choice(pool), signal.SIGKILL):
        return _kill(arena, "worker")
    arena.strike(kills=1)
    return worker.name


def kill_beat(arena: Arena) -> str:
    return _kill(arena, "beat")


def kill_listener(arena: Arena) -> str:
    return _kill(arena, "listener")


def kill_api(arena: Arena) -> str:
    return _kill(arena, "api")


def kill_all_workers(arena: Arena) -> str:
    """At the same moment."""
    workers = arena.system.named("worker")
    for child in workers:
        arena.strike(kills=child.running and send_signal(child.pid, signal.SIGKILL))
    for child in workers:
        _wait_until_back(arena, child)
    return f"{len(workers)} workers"


def kill_at_step(arena: Arena) -> str:
    """SIGKILL to the first process that comes by a step of the straight line."""
    return _at_a_step(arena, arena.dice.sample(POINTS, len(POINTS)), "kill")


def hang_at_step(arena: Arena) -> str:
    """A process hangs at a step, longer than the visibility timeout, and goes on when others did its work."""
    points = ["decide-before", "fetch-before", "emit-before", "finish-after", "load-after"]
    return _at_a_step(arena, arena.dice.sample(points, len(points)), f"hang {_HANG_SECONDS}")


def terminate(arena: Arena) -> str:
    """SIGTERM: running tasks finish, the rest goes back."""
    child = arena.dice.choice(list(arena.system.children.values()))
    if child.running and send_signal(child.pid, signal.SIGTERM):
        arena.strike()
        deadline = time.monotonic() + _BACK_SECONDS
        pid = child.pid
        while time.monotonic() < deadline and child.pid == pid and not arena.stop.is_set():
            arena.pause(0.1)
        _wait_until_back(arena, child)
    return child.name


def zombie(arena: Arena) -> str:
    """SIGSTOP to a pool process or to a whole worker or listener, and SIGCONT after its work was redone."""
    child = arena.dice.choice(arena.system.named("worker") + arena.system.named("listener"))
    pids = arena.system.pool_of(child)
    if not pids or arena.dice.random() < 0.5:
        pids = [child.pid, *pids]
    stopped = [pid for pid in pids if send_signal(pid, signal.SIGSTOP)]
    arena.pause(_ZOMBIE_SECONDS)
    for pid in stopped:
        send_signal(pid, signal.SIGCONT)
    return f"{child.name}, {len(stopped)} processes"


def _kill(arena: Arena, kind: str) -> str:
    children = arena.system.named(kind)
    if not children:
        raise LookupError(f"there is no {kind}")
    child = arena.dice.choice(children)
    _wait_until_back(arena, child)  # from a fault before
    if not send_signal(child.pid, signal.SIGKILL):
        raise LookupError(f"{child.name} was gone")
    arena.strike(kills=1)
    _wait_until_back(arena, child)
    return child.name


def _at_a_step(arena: Arena, points: Sequence[str], action: str) -> str:
    """At the first of these that a process comes by in time: some are seldom passed, none while a server is away."""
    for point in points:
        path = arena.system.points.arm(point, action)
        deadline = time.monotonic() + _REACHED_SECONDS
        while path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            path.unlink()
        except FileNotFoundError:
            arena.kills += action == "kill"
            return point
    raise LookupError("no process came by")


def _wait_until_back(arena: Arena, child: Child) -> None:
    deadline = time.monotonic() + _BACK_SECONDS
    while time.monotonic() < deadline and not arena.stop.is_set():
        if child.running and (child.ready is None or child.ready()):
            return
        arena.pause(0.1)
