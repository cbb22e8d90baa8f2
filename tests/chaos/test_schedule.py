"""Faults that are drawn from a seed."""

import random

from chaos.crashpoints import STEPS
from chaos.schedule import KINDS, OF_ONE_REDIS, OF_SENTINELS, counts, plan


def test_run_of_200000_requests_has_its_number_of_faults() -> None:
    drawn = counts(200_000)
    kills = sum(drawn[kind] for kind in drawn if kind.startswith("kill_")) + drawn["cut_power_of_redis"]
    assert kills >= 200
    assert sum(drawn[kind] for kind in ("restart_redis", "kill_redis", "cut_power_of_redis")) == 20
    assert (drawn["flush"], drawn["step_down"], drawn["deliver_twice"]) == (5, 20, 20)


def test_steps_at_which_processes_die_are_methods_of_the_product() -> None:
    assert [point for point, (owner, name, _) in STEPS.items() if not hasattr(owner, name)] == []


def test_short_run_has_at_least_25_faults_and_every_kind() -> None:
    drawn = counts(5000)
    assert set(drawn) == set(KINDS) - set(OF_SENTINELS)
    assert min(drawn.values()) >= 1
    assert sum(drawn.values()) >= 25


def test_run_with_sentinels_fails_over_in_every_way_instead_of_restarting_redis() -> None:
    drawn = counts(5000, sentinel=True)
    assert set(drawn) == set(KINDS) - set(OF_ONE_REDIS)
    assert min(drawn[kind] for kind in OF_SENTINELS) == 2


def test_same_seed_gives_the_same_plan() -> None:
    once, again = (plan(counts(5000), 200, random.Random(9)) for _ in range(2))
    assert once == again
    assert once != plan(counts(5000), 200, random.Random(10))
    assert all(0 <= each.at <= 200 for lane in once.values() for each in lane)


def test_fault_that_needs_requests_comes_while_they_are_sent() -> None:
    for seed in range(20):
        lanes = plan(counts(4000), 150, random.Random(seed))
        (times,) = [
            sorted(each.at for each in lane if each.kind == "kill_accepting_child")
            for lane in lanes.values()
            if any(each.kind == "kill_accepting_child" for each in lane)
        ]
        assert times[0] < 30
