"""Hosts that are network namespaces: they reach each other until they are cut off in silence, and leave nothing."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.hosts.network import OUTSIDE, Network, Unavailable, links_between, network, remove_stale, require
from chaos.hosts.plan import Wanted
from support.waiting import eventually

_PORT = 7000
_ECHO = f"""
import socket, sys
with socket.create_server((sys.argv[1], {_PORT})) as listening:
    while True:
        near, _ = listening.accept()
        near.sendall(near.recv(100))
        near.close()
"""
_MAKE = """
import sys
from chaos.hosts.network import network
with network(["left"]) as made:
    print(made.outside.address, made.hosts["left"].namespace, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    try:
        require()
    except Unavailable as reason:
        pytest.skip(str(reason))
    with network(["one", "two"]) as made, contextlib.ExitStack() as stack:
        for host in made.hosts.values():
            command = host.place.command([sys.executable, "-I", "-S", "-c", _ECHO, host.address])
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        for host in made.hosts.values():
            eventually(lambda host=host: answers(host.address, 1.0), 20)  # type: ignore[misc]
        yield made
    eventually(lambda: not left(made), 20)


def left(made: Network) -> list[str]:
    """What is left of a network: its namespaces, and the interface outside."""
    shown = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout)
    names = [host.namespace for host in made.hosts.values() if host.namespace in shown]
    return names + [link["ifname"] for link in links if link["ifname"] == made.device]


def answers(address: str, seconds: float) -> bool:
    """Whether a host answers in time. Raises OSError if it refuses, which a host that is cut off must not."""
    try:
        with socket.create_connection((address, _PORT), timeout=seconds) as connection:
            connection.sendall(b"hello")
            return connection.recv(100) == b"hello"
    except TimeoutError:
        return False
    except ConnectionRefusedError:  # not started yet
        return False


def test_host_that_is_cut_off_is_silent_and_comes_back(net: Network) -> None:
    one, two = (net.hosts[name].address for name in ("one", "two"))
    with net.cut(net.links_of("one")):
        began = time.monotonic()
        assert not answers(one, 0.5)
        assert time.monotonic() - began >= 0.5  # nobody refused
        assert answers(two, 5.0)
    assert answers(one, 5.0)


@pytest.mark.parametrize("link", [("one", OUTSIDE), (OUTSIDE, "one")])
def test_one_direction_can_be_cut(link: tuple[str, str], net: Network) -> None:
    with net.cut([link]):
        assert not answers(net.hosts["one"].address, 0.3)
    assert answers(net.hosts["one"].address, 5.0)


def test_cuts_may_overlap(net: Network) -> None:
    between = links_between(["one"], [OUTSIDE])
    with net.cut(net.links_of("one")):
        with net.cut(between):
            pass
        assert not answers(net.hosts["one"].address, 0.3)


def test_slow_host_delays_and_goes_on(net: Network) -> None:
    with net.slow("one", 0.2, 0.0):
        began = time.monotonic()
        eventually(lambda: answers(net.hosts["one"].address, 5.0), 20)
        assert time.monotonic() - began >= 0.4  # a round trip to connect, another for the answer
    eventually(lambda: answers(net.hosts["one"].address, 1.0), 20)


def test_frozen_host_accepts_connections_and_answers_later(net: Network) -> None:
    with net.frozen("two") as count:
        assert count == 1
        assert not answers(net.hosts["two"].address, 0.3)
    assert answers(net.hosts["two"].address, 5.0)


def test_run_that_was_killed_is_removed_by_the_next(net: Network) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", _MAKE], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        namespace = process.stdout.readline().split()[1]
        process.kill()
    assert namespace in _namespaces()
    remove_stale()
    assert namespace not in _namespaces()
    assert net.hosts["one"].namespace in _namespaces()  # that of a run which goes on


def _namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def test_run_has_the_faults_that_are_asked_for_and_the_time_for_them() -> None:
    wanted = Wanted(rounds=2, failovers=20, step_downs=20, fault_seconds=60)
    failovers = ("hand_over_redis", "kill_redis_primary", "freeze_redis_primary")
    assert sum(wanted.faults[name] for name in failovers) == 20
    assert (wanted.faults["step_down"], wanted.faults["freeze_host"]) == (20, 2)
    assert wanted.seconds > 2 * 7 * 60
    assert Wanted(only=["slow_host", "slow_host"]).faults == {"slow_host": 2}


def test_user_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match=r"root|Linux"):
        require()
