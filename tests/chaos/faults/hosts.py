"""Faults of hosts and of the network between them. Each lasts for the cluster's `seconds`."""

import contextlib
from collections.abc import Iterator

from chaos.context import Context
from chaos.hosts.cluster import APP_HOSTS, MONGO_HOSTS, REDIS_HOSTS, Cluster
from chaos.hosts.network import OUTSIDE, links_between
from support.waiting import eventually

_WHOLE_SECONDS = 90.0
_DELAY_SECONDS, _LOSS = 0.2, 0.05


def cut_app_host(context: Context) -> str:
    """Cuts a host of workers, listeners and APIs off from everyone."""
    return _cut(context, context.dice.choice(list(APP_HOSTS)))


def cut_redis_primary(context: Context) -> str:
    return _cut(context, _cluster(context).host_of_redis_primary())


def cut_mongo_primary(context: Context) -> str:
    return _cut(context, _cluster(context).host_of_mongo_primary())


def cut_one_direction(context: Context) -> str:
    """Loses what a host sends, or what is sent to it."""
    cluster = _cluster(context)
    name, mute = _any_host(context), context.dice.random() < 0.5
    links = [link for link in cluster.network.links_of(name) if (link[0] == name) == mute]
    with _disturbed(context), cluster.network.cut(links):
        context.pause(cluster.seconds)
    return f"{name} {'is not heard' if mute else 'hears nothing'}"


def separate_majorities(context: Context) -> str:
    """Splits the network: MongoDB's majority is on one side, Redis's on the other, processes of the product on both."""
    cluster, dice = _cluster(context), context.dice
    mongo, redis, apps = (dice.sample(list(names), 3) for names in (MONGO_HOSTS, REDIS_HOSTS, APP_HOSTS))
    sides = [*mongo[:2], redis[0], apps[0]], [mongo[2], *redis[1:], apps[1]]
    for name in (apps[2], OUTSIDE):
        dice.choice(sides).append(name)
    with _disturbed(context), cluster.network.cut(links_between(*sides)):
        context.pause(cluster.seconds)
    return " | ".join(" ".join(sorted(side)) for side in sides)


def slow_host(context: Context) -> str:
    """Delays a host's traffic by 200 ms for a round trip, and loses 5 % of it."""
    cluster, name = _cluster(context), _any_host(context)
    with _disturbed(context), cluster.network.slow(name, _DELAY_SECONDS, _LOSS) as how:
        context.pause(cluster.seconds)
    return f"{name}, by {how}"


def freeze_host(context: Context) -> str:
    """Stops all processes of a host, which then go on as if no time had passed."""
    cluster, name = _cluster(context), _any_host(context)
    with _disturbed(context), cluster.network.frozen(name) as count:
        context.pause(cluster.seconds)
    return f"{name}, {count} processes"


def _cluster(context: Context) -> Cluster:
    if not isinstance(context.servers, Cluster):
        raise LookupError("needs several hosts")
    return context.servers


def _any_host(context: Context) -> str:
    """A host of the product, the one of Redis's primary, or the one of MongoDB's."""
    cluster = _cluster(context)
    kinds = (
        lambda: context.dice.choice(list(APP_HOSTS)),
        cluster.host_of_redis_primary,
        cluster.host_of_mongo_primary,
    )
    return context.dice.choice(kinds)()


def _cut(context: Context, name: str) -> str:
    cluster = _cluster(context)
    with _disturbed(context), cluster.network.cut(cluster.network.links_of(name)):
        context.pause(cluster.seconds)
    return name


@contextlib.contextmanager
def _disturbed(context: Context) -> Iterator[None]:
    """The end of the block is the end of the fault, after which the stores have to become whole."""
    cluster = _cluster(context)
    with context.store_disturbed():
        yield
        context.strike()
        cluster.primary(_WHOLE_SECONDS)
        eventually(cluster.sentinels.is_whole, _WHOLE_SECONDS, 0.2)
