"""What the Python client does when Redis fails over, and what it reads at most."""

from typing import Any

import pytest
import redis

from worker.client.following import follow
from worker.client.models import Sent
from worker.client.steps import Deliver, Driver, Execute, Names, Sleep
from worker.client.waiting import wait
from worker.errors import BrokerUnavailable

FAILING_OVER = [
    "NOREPLICAS Not enough good replicas to write.",
    "READONLY You can't write against a read only replica.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
]


def readers() -> list[Driver[Any]]:
    """One that follows all events, and one that waits for an outcome."""
    following: Any = follow(Names(), "g", "c", take_over_after=60, timeout=None)
    return [Driver(following), Driver(wait(Names(), "order-1", 30.0))]


@pytest.mark.parametrize("reply", FAILING_OVER)
def test_reader_goes_on_after_a_failover(reply: str) -> None:
    for driver in readers():
        assert isinstance(driver.step, Execute)
        before = driver.step.commands
        driver.throw(redis.ResponseError(reply))
        if isinstance(driver.step, Sleep):
            driver.send(None)
        if driver.step.commands[0][0] == "xgroup_create":  # the reply may mean that the stream is gone
            driver.throw(redis.ResponseError("READONLY You can't write against a read only replica."))
            assert isinstance(driver.step, Sleep)
            driver.send(None)
            driver.send("OK")
        assert driver.step.commands == before


def test_reader_ends_if_redis_refuses_for_good() -> None:
    for driver in readers():
        with pytest.raises(BrokerUnavailable):
            driver.throw(redis.exceptions.NoPermissionError("this user has no permissions to run the 'xread' command"))
    for driver in readers():
        with pytest.raises(BrokerUnavailable):
            driver.throw(redis.AuthenticationError("invalid username-password pair"))


def test_events_that_take_long_are_read_again_before_others_take_them_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.client.following.time.monotonic", lambda: now[0])
    following: Any = follow(Names(), "g", "c", take_over_after=60, timeout=None)
    driver: Driver[Any] = Driver(following)
    entries = [(f"{number}-0", {"event": "{}"}) for number in range(1, 101)]
    driver.send([{"snapshots:events": [entries]}])
    acknowledged = 0
    while driver.step.commands[0][0] == "xack":
        acknowledged += 1
        now[0] += 1.0
        driver.send(1)
    assert acknowledged == 31
    name, args, _ = driver.step.commands[0]
    assert (name, args[-1]) == ("xreadgroup", {"snapshots:events": "0"})


def test_waiting_client_reads_few_rejected_entries_at_once() -> None:
    sent = Sent("order-1", "5-0", "6a" * 12, ("4-0", "3-0"), may_be_older=False)
    driver = Driver(wait(Names(), sent, 30.0))
    assert isinstance(driver.step, Execute)
    name, args, options = driver.step.commands[0]
    assert (name, set(args[0])) == ("xread", {"snapshots:events", "snapshots:rejected"})
    assert options["count"] <= 50


def test_follower_without_waiting_reads_everything_that_is_there() -> None:
    following: Any = follow(Names(), "g", "c", take_over_after=60, timeout=0)
    driver: Driver[Any] = Driver(following)
    driver.send([None])  # nothing is pending
    assert driver.step.commands[0][0] == "xautoclaim"
    driver.send([("0-0", [], [])])
    assert driver.step.commands[0][0] == "xreadgroup"
    driver.send([{"snapshots:events": [[("1-0", {"event": "{}"})]]}])
    assert not isinstance(driver.step, Deliver)
    assert driver.step.commands[0][0] == "xack"
    driver.send([1])
    assert driver.step.commands[0][0] == "xreadgroup"
    driver.send([None])
    assert driver.done
