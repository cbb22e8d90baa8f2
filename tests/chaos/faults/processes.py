"""Faults of processes: they die, stop or hang."""

import signal
import time
from collections.abc import Sequence

from chaos.context import Context
from chaos.crashpoints import POINTS
from chaos.system import send_signal
from worker.local.processes import Child

_REACHED_SECONDS = 3.0
_BACK_SECONDS = 40.0
_ZOMBIE_SECONDS = 30.0
_HANG_SECONDS = 8


def kill_worker(context: Context) -> str:
    """SIGKILL to a worker's parent; its pool ends with it."""
    return _kill(context, "worker")


def kill_worker_child(context: Context) -> str:
    """SIGKILL to a pool process alone."""
    worker = context.dice.choice(context.system.named("worker"))
    pool = context.system.pool_of(worker)
    if not pool or not send_signal(context.dice.choice(pool), signal.SIGKILL):
        return _kill(context, "worker")
    context.strike(kills=1)
    return worker.name


def kill_accepting_child(context: Context) -> str:
    """SIGKILL to the pool process that is the next to accept the request of a Celery producer, before it does."""
    return _at_a_step(context, ["submit-before"], "kill")


def kill_beat(context: Context) -> str:
    return _kill(context, "beat")


def kill_listener(context: Context) -> str:
    return _kill(context, "listener")


def kill_api(context: Context) -> str:
    return _kill(context, "api")


def kill_all_workers(context: Context) -> str:
    """SIGKILL to all workers at the same moment."""
    workers = context.system.named("worker")
    for child in workers:
        context.strike(kills=child.running and send_signal(child.pid, signal.SIGKILL))
    if not context.kills:
        raise LookupError("no worker was running")
    for child in workers:
        _wait_until_back(context, child)
    return f"{len(workers)} workers"


def kill_at_step(context: Context) -> str:
    """SIGKILL to the first process that reaches a randomly chosen step."""
    return _at_a_step(context, context.dice.sample(POINTS, len(POINTS)), "kill")


def hang_at_step(context: Context) -> str:
    """A process hangs at a step for longer than the visibility timeout, and continues after others did its work."""
    points = ["decide-before", "fetch-before", "emit-before", "finish-after", "load-after"]
    return _at_a_step(context, context.dice.sample(points, len(points)), f"hang {_HANG_SECONDS}")


def terminate(context: Context) -> str:
    """SIGTERM: running tasks finish, the others go back to the queue."""
    child = context.dice.choice(list(context.system.children.values()))
    pid = child.pid
    if not (child.running and send_signal(pid, signal.SIGTERM)):
        raise LookupError(f"{child.name} was not running")
    context.strike()
    deadline = time.monotonic() + _BACK_SECONDS
    while time.monotonic() < deadline and child.pid == pid and not context.stop.is_set():
        context.pause(0.1)
    _wait_until_back(context, child)
    return child.name


def zombie(context: Context) -> str:
    """SIGSTOP to a pool process or to a whole worker or listener, and SIGCONT after its work was redone."""
    child = context.dice.choice(context.system.named("worker") + context.system.named("listener"))
    pids = context.system.pool_of(child)
    if not pids or context.dice.random() < 0.5:
        pids = [child.pid, *pids]
    stopped = [pid for pid in pids if send_signal(pid, signal.SIGSTOP)]
    if not stopped:
        raise LookupError(f"{child.name} was not running")
    context.pause(_ZOMBIE_SECONDS)
    for pid in stopped:
        send_signal(pid, signal.SIGCONT)
    return f"{child.name}, {len(stopped)} processes"


def _kill(context: Context, kind: str) -> str:
    children = context.system.named(kind)
    if not children:
        raise LookupError(f"there is no {kind}")
    child = context.dice.choice(children)
    _wait_until_back(context, child)  # after an earlier fault
    if not send_signal(child.pid, signal.SIGKILL):
        raise LookupError(f"{child.name} was not running")
    context.strike(kills=1)
    _wait_until_back(context, child)
    return child.name


def _at_a_step(context: Context, points: Sequence[str], action: str) -> str:
    """Acts at the first of these points that a process reaches in time; some are rare, or need servers that are up."""
    for point in points:
        path = context.system.points.arm(point, action)
        deadline = time.monotonic() + _REACHED_SECONDS
        while path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            path.unlink()
        except FileNotFoundError:
            context.kills += action == "kill"
            return point
    raise LookupError("no process reached any of the points")


def _wait_until_back(context: Context, child: Child) -> None:
    deadline = time.monotonic() + _BACK_SECONDS
    while time.monotonic() < deadline and not context.stop.is_set():
        if child.running and (child.ready is None or child.ready()):
            return
        context.pause(0.1)
