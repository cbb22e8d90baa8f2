"""Draws which faults are injected, how many and when, from the number of requests and a seed.

A run of 200,000 requests has 200 SIGKILLs, 20 restarts of Redis, 5 flushes and 20 step-downs, and delivers everything
again 20 times. A shorter run has fewer, and at least one of every kind.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chaos.context import Context, Fault, Injected
from chaos.faults import abuse, broker, erasure, failover, processes, store

PROCESSES, ZOMBIES, BROKER, STORE, CALLERS = "processes", "zombies", "broker", "store", "callers"
"""Lanes: the faults of one lane come one after the other; those of different lanes overlap."""

Lanes = Mapping[str, Mapping[str, Fault]]
"""Faults by lane and name."""

LANES: Lanes = {
    PROCESSES: {
        fault.__name__: fault
        for fault in (
            processes.kill_worker,
            processes.kill_worker_child,
            processes.kill_accepting_child,
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
        fault.__name__: fault
        for fault in (
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
            failover.kill_redis_primary,
            failover.hand_over_redis,
            failover.freeze_redis_primary,
        )
    },
    STORE: {
        fault.__name__: fault
        for fault in (
            store.step_down,
            store.kill_primary,
            store.kill_secondary,
            store.partition_primary,
            store.isolate_primary,
            store.slow_mongo,
        )
    },
    CALLERS: {
        fault.__name__: fault
        for fault in (abuse.malformed_messages, abuse.huge_entries, abuse.flood, erasure.erase_contact)
    },
}
KINDS = frozenset(name for faults in LANES.values() for name in faults)


_TRIES = 3
OF_ONE_REDIS = (
    "restart_redis",
    "kill_redis",
    "cut_power_of_redis",
    "fill_disk",
    "slow_redis",
    "hold_redis",
    "cut_redis",
)
"""Faults that need the one Redis behind a proxy."""
OF_SENTINELS = ("kill_redis_primary", "hand_over_redis", "freeze_redis_primary")


_NEEDS_REQUESTS = frozenset({"kill_accepting_child"})


@dataclass(frozen=True)
class Planned:
    """A fault and its time, in seconds after the beginning."""

    at: float
    kind: str
    inject: Fault


def counts(requests: int, *, sentinel: bool = False) -> dict[str, int]:
    """Returns how many faults of each kind a run of so many requests has.

    `sentinel`: with failovers, instead of the faults of a single Redis.
    """
    if sentinel:
        alike = {kind: count for kind, count in counts(requests).items() if kind not in OF_ONE_REDIS}
        return alike | dict.fromkeys(OF_SENTINELS, max(2, requests // 20_000))
    kills, tenth = max(10, requests // 1000), max(1, requests // 10_000)
    one = max(1, requests // 40_000)
    return {
        "kill_at_step": kills // 2,
        "kill_worker": max(1, kills // 8),
        "kill_worker_child": max(1, kills // 6),
        "kill_accepting_child": max(2, kills // 20),  # two: the last one may find no message any more
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
        "malformed_messages": one,
        "huge_entries": one,
        "flood": one,
        "erase_contact": one,
    }


def plan(
    wanted: Mapping[str, int], seconds: float, dice: random.Random, lanes: Lanes = LANES
) -> dict[str, list[Planned]]:
    """Returns the faults by lane in order of time, shuffled by `dice` and spread over 5 % to 95 % of the time.

    The first one of a lane is one that needs requests, because faults that take longer may outlast all requests.
    """
    planned: dict[str, list[Planned]] = {}
    for lane, kinds in lanes.items():
        drawn = [kind for kind in kinds for _ in range(wanted.get(kind, 0))]
        dice.shuffle(drawn)
        for kind in _NEEDS_REQUESTS.intersection(drawn):
            drawn.remove(kind)
            drawn.insert(0, kind)
        step = 0.9 * seconds / max(1, len(drawn))
        planned[lane] = [
            Planned(0.05 * seconds + step * (number + dice.random()), kind, kinds[kind])
            for number, kind in enumerate(drawn)
        ]
    return planned


def never_done(wanted: Mapping[str, int], injected: Sequence[Injected]) -> list[str]:
    """Returns a line for each planned kind of which none was injected."""
    return [
        f"{kind}: never done"
        for kind, count in wanted.items()
        if count and not any(fault.kind == kind for fault in injected)
    ]


def start(context: Context, lanes: Mapping[str, list[Planned]], seed: int, begin: float) -> list[threading.Thread]:
    """Starts one thread for each lane; `begin` is a monotonic time."""
    threads = []
    for lane, planned in lanes.items():
        own = replace(context, dice=random.Random(f"{seed} {lane}"))
        threads.append(threading.Thread(target=_go_through, args=(own, planned, begin), name=lane, daemon=True))
    for thread in threads:
        thread.start()
    return threads


def _go_through(context: Context, planned: list[Planned], begin: float) -> None:
    for fault in planned:
        context.pause(max(0.0, begin + fault.at - time.monotonic()))
        if context.stop.is_set():
            context.missed.append(f"{fault.kind}: the run was over")
            continue
        _do(context, fault)


def _do(context: Context, fault: Planned) -> None:
    """Injects one fault now and records it; tries again if another fault has taken away what it needs."""
    kind, reason, began = fault.kind, "", time.time()
    context.kills, context.struck = 0, 0.0
    for _ in range(_TRIES):
        try:
            description = fault.inject(context)
        except Exception as error:  # noqa: BLE001 - the fault is recorded as missed, and the others follow
            reason = f"{kind}: {type(error).__name__}: {error}"
            context.pause(2.0)
        else:
            context.injected.append(Injected(kind, began, time.time(), description, context.kills, context.struck))
            return
    context.missed.append(reason)
