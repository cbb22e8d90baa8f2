"""Which faults, how many, when: from the number of requests and a seed.

The counts follow the issue's judged run: of 200,000 requests 200 SIGKILLs, 20 restarts of Redis, 5 flushes,
20 step-downs, 20 times everything delivered twice. A shorter run has fewer, and at least one of every kind.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chaos.context import Arena, Done, Fault
from chaos.faults import broker, processes, store

PROCESSES, ZOMBIES, BROKER, STORE = "processes", "zombies", "broker", "store"
"""Lanes: each does one fault after the other; those of different lanes overlap."""

LANES: dict[str, dict[str, Fault]] = {
    PROCESSES: {
        each.__name__: each
        for each in (
            processes.kill_worker,
            processes.kill_worker_child,
            processes.kill_beat,
            processes.kill_listener,
            processes.kill_api,
            processes.kill_all_workers,
            processes.kill_at_step,
            processes.hang_at_step,
            processes.terminate,
        )
    },
    ZOMBIES: {"zombie": processes.zombie},
    BROKER: {
        each.__name__: each
        for each in (
            broker.restart_redis,
            broker.kill_redis,
            broker.cut_power_of_redis,
            broker.flush,
            broker.fill_memory,
            broker.fill_disk,
            broker.slow_redis,
            broker.hold_redis,
            broker.cut_redis,
            broker.deliver_twice,
        )
    },
    STORE: {
        each.__name__: each
        for each in (
            store.step_down,
            store.kill_primary,
            store.kill_secondary,
            store.partition_primary,
            store.isolate_primary,
            store.slow_mongo,
        )
    },
}
KINDS: dict[str, tuple[str, Fault]] = {name: (lane, do) for lane, all_ in LANES.items() for name, do in all_.items()}


_TRIES = 3


@dataclass(frozen=True)
class Planned:
    """One fault, so many seconds after the beginning."""

    at: float
    kind: str


def counts(requests: int) -> dict[str, int]:
    """How many of each kind."""
    kills, tenth = max(10, requests // 1000), max(1, requests // 10_000)
    one = max(1, requests // 40_000)
    return {
        "kill_at_step": kills // 2,
        "kill_worker": max(1, kills // 8),
        "kill_worker_child": max(1, kills // 6),
        "kill_beat": max(1, kills // 20),
        "kill_listener": max(1, kills // 10),
        "kill_api": max(1, kills // 20),
        "kill_all_workers": one,
        "hang_at_step": tenth,
        "terminate": tenth,
        "zombie": one,
        "restart_redis": max(1, tenth // 3),
        "kill_redis": max(1, tenth // 3),
        "cut_power_of_redis": max(1, tenth - 2 * (tenth // 3)),
        "flush": one,
        "fill_memory": one,
        "fill_disk": one,
        "slow_redis": one,
        "hold_redis": one,
        "cut_redis": one,
        "deliver_twice": tenth,
        "step_down": tenth + (tenth == 1),
        "kill_primary": one,
        "kill_secondary": one,
        "partition_primary": one,
        "isolate_primary": one,
        "slow_mongo": one,
    }


def plan(wanted: Mapping[str, int], seconds: float, dice: random.Random) -> dict[str, list[Planned]]:
    """By lane, in order of time: drawn in the seed's order, spread evenly over 5 % to 95 % of the time."""
    lanes: dict[str, list[Planned]] = {}
    for lane, kinds in LANES.items():
        drawn = [kind for kind in kinds for _ in range(wanted.get(kind, 0))]
        dice.shuffle(drawn)
        step = 0.9 * seconds / max(1, len(drawn))
        lanes[lane] = [
            Planned(0.05 * seconds + step * (number + dice.random()), kind) for number, kind in enumerate(drawn)
        ]
    return lanes


def never_done(wanted: Mapping[str, int], done: Sequence[Done]) -> list[str]:
    """Kinds that were planned, and of which none could be done."""
    return [f"{kind}: never done" for kind, count in wanted.items() if count and not any(e.kind == kind for e in done)]


def start(arena: Arena, lanes: Mapping[str, list[Planned]], seed: int, begin: float) -> list[threading.Thread]:
    """One thread for each lane. `begin` is monotonic."""
    threads = []
    for lane, planned in lanes.items():
        own = replace(arena, dice=random.Random(f"{seed} {lane}"))
        threads.append(threading.Thread(target=_go_through, args=(own, planned, begin), name=lane, daemon=True))
    for thread in threads:
        thread.start()
    return threads


def _go_through(arena: Arena, planned: list[Planned], begin: float) -> None:
    for each in planned:
        arena.pause(max(0.0, begin + each.at - time.monotonic()))
        if arena.stop.is_set():
            arena.missed.append(f"{each.kind}: the time was over")
            continue
        _do(arena, each.kind)


def _do(arena: Arena, kind: str) -> None:
    """One fault, now, and written down; tried again where what it needs is away for another one."""
    reason, began = "", time.time()
    arena.kills, arena.struck = 0, 0.0
    for _ in range(_TRIES):
        try:
            said = KINDS[kind][1](arena)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is no fault that was done, and others are to come
            reason = f"{kind}: {type(error).__name__}: {error}"
            arena.pause(2.0)
        else:
            arena.done.append(Done(kind, began, time.time(), said, arena.kills, arena.struck))
            return
    arena.missed.append(reason)
