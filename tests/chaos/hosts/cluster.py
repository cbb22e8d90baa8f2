"""The installation on several hosts: MongoDB and Redis on three each, and three with the product's processes."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chaos.hosts.network import Network, network
from chaos.servers import DOWN_AFTER_MS, MEMBERS, NO_EVICTION, Servers, initiate, mongod
from chaos.supervision import supervised
from support.places import Place
from support.sentinels import Sentinels, sentinels
from worker.local.data_folder import DataFolder

MONGO_HOSTS = tuple(f"mongo{name}" for name in MEMBERS)
REDIS_HOSTS = ("redis0", "redis1", "redis2")
"""Each has a Redis and a Sentinel."""
APP_HOSTS: Mapping[str, tuple[str, ...]] = {
    "app0": ("api1", "listener1", "worker1", "beat"),
    "app1": ("api2", "listener2", "worker2"),
    "app2": ("worker3",),
}
HOSTS = (*MONGO_HOSTS, *REDIS_HOSTS, *APP_HOSTS)
_MONGO_PORT, _REDIS_PORT, _SENTINEL_PORT = 27017, 6379, 26379
"""Those of the first host; the others have the following ones, by which they are told apart."""


@dataclass
class Cluster(Servers):
    """The stores, each on a host of its own."""

    network: Network = field(kw_only=True)
    sentinels: Sentinels = field(kw_only=True)
    seconds: float = field(kw_only=True)
    """How long a disturbance of the network or a host lasts."""

    def known_as(self, member: str) -> str:
        return f"{self.network.hosts[f'mongo{member}'].address}:{self.ports[f'mongo{member}']}"

    def own_address(self, member: str) -> str:
        return self.known_as(member)

    def host_of_redis_primary(self) -> str:
        return REDIS_HOSTS[self.sentinels.ports.index(self.sentinels.primary())]

    def host_of_mongo_primary(self) -> str:
        return f"mongo{self.primary()}"

    def places(self) -> dict[str, Place]:
        """Returns where the product's processes run."""
        return {process: self.network.hosts[host].place for host, names in APP_HOSTS.items() for process in names}


@contextlib.contextmanager
def running(folder: DataFolder, seconds: float) -> Iterator[Cluster]:
    """Makes the hosts and starts the stores on them. MongoDB's members are started again when they die.

    Raises Unavailable, ChildFailed.
    """
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network(HOSTS))
        ports = {f"mongo{name}": _MONGO_PORT + int(name) for name in MEMBERS}
        members = {
            name: mongod(folder, name, ports[f"mongo{name}"], net.hosts[f"mongo{name}"].place) for name in MEMBERS
        }
        watched = stack.enter_context(_sentinels(folder, net))
        cluster = Cluster(
            folder.path, ports, None, None, members, watched, network=net, sentinels=watched, seconds=seconds
        )
        for child in cluster.children:
            child.grace = 0.0  # their data is not read again
        stack.enter_context(supervised(cluster.children, cluster.deaths))
        initiate(cluster)
        yield cluster


def _sentinels(folder: DataFolder, net: Network) -> contextlib.AbstractContextManager[Sentinels]:
    numbered = list(enumerate(REDIS_HOSTS))
    return sentinels(
        folder.path / "sentinels",
        options=(*NO_EVICTION, "--protected-mode", "no"),
        down_after_ms=DOWN_AFTER_MS,
        ports=[_REDIS_PORT + number for number, _ in numbered],
        sentinel_ports=[_SENTINEL_PORT + number for number, _ in numbered],
        places={
            first + number: net.hosts[host].place
            for first in (_REDIS_PORT, _SENTINEL_PORT)
            for number, host in numbered
        },
    )
