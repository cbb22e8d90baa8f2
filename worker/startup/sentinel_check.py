"""Checks whether the Sentinels answer, watch a primary of this name, and have a replica to promote."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from worker.errors import BrokerUnavailable, UnusableServer
from worker.redis_address.address import Host, RedisAddress, Sentinels, shown
from worker.stores.redis_errors import VARIABLE, explain, is_lasting, name_of, reason_of

_ENOUGH = 3
"""The number of Sentinels of which a majority remains when one is lost."""


def check(address: RedisAddress) -> list[str]:
    """Return warnings about failovers, one sentence each.

    Raises UnusableServer if waiting will not help, BrokerUnavailable if no Sentinel answers.
    """
    own = address.sentinels
    assert own is not None  # noqa: S101 - the caller has checked
    with ThreadPoolExecutor(len(own.hosts)) as threads:  # together: each silent one takes seconds
        answers = list(threads.map(lambda host: _answer(host, own, address), own.hosts))
    found = [answer for answer in answers if not isinstance(answer, BrokerUnavailable)]
    silent = [answer.message for answer in answers if isinstance(answer, BrokerUnavailable)]
    if not found:
        raise BrokerUnavailable(f"None of the Sentinels of {VARIABLE} answers ({', '.join(silent)}).")
    return list(_risks(own, found, silent))


def _answer(host: Host, own: Sentinels, address: RedisAddress) -> Mapping[str, Any] | BrokerUnavailable:
    try:
        return _primary(host, own, address)
    except BrokerUnavailable as error:
        return error


def _primary(host: Host, own: Sentinels, address: RedisAddress) -> Mapping[str, Any]:
    """Ask one Sentinel for its state of the primary. Raises UnusableServer, BrokerUnavailable."""
    where = f"The server at {shown(host)} ({VARIABLE})"
    try:
        with redis.Redis(*host, **address.sentinel_options()) as client:
            known: Any = client.sentinel_masters()
    except redis.RedisError as error:
        if "unknown command" in str(error):
            raise UnusableServer(
                f"{where} is not a Sentinel but a Redis server: use the Sentinel's port (default 26379) or redis://."
            ) from error
        if isinstance(error, redis.AuthenticationError) or name_of(error) in {"NOAUTH", "WRONGPASS"}:
            needed = "the Sentinel has a login of its own: see the options sentinel_username and sentinel_password"
            raise UnusableServer(f"{where} cannot be used ({name_of(error)}): {needed}.") from error
        if is_lasting(error):
            raise UnusableServer(f"{where} cannot be used. {explain(error)}") from error
        raise BrokerUnavailable(f"{shown(host)}: {reason_of(error).removeprefix(f'{shown(host)}: ')}") from error
    if own.name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise UnusableServer(f"{where} watches no primary with the name {own.name}; it watches: {names}.")
    state: Mapping[str, Any] = known[own.name]
    return state


def _risks(own: Sentinels, found: list[Mapping[str, Any]], silent: list[str]) -> Iterator[str]:
    if silent:
        yield f"{len(silent)} of {len(own.hosts)} Sentinels do not answer ({', '.join(silent)})."
    known = max(state["num-other-sentinels"] + 1 for state in found)
    if known < _ENOUGH:
        yield f"There are {known} Sentinels. Use three or more, so that a majority is left when one is lost."
    if not any(state["num-slaves"] for state in found):
        yield f"{own.name} has no replica, so Sentinel cannot fail over."


def risks(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings about data that the primary may lose at a failover.

    `info`: its INFO, or what could be read of it.
    """
    if "connected_slaves" in info and "min_slaves_good_slaves" not in info:
        yield (
            "min-replicas-to-write is 0, so a primary that is cut off keeps accepting entries, which are lost: "
            "run CONFIG SET min-replicas-to-write 1 on all Redis servers."
        )
