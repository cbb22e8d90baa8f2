"""Which faults a run on several hosts has, and how long it takes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.faults import failover, hosts, store
from chaos.hosts import cluster
from chaos.hosts.network import require
from chaos.result import Result
from chaos.run import Options, run_on
from chaos.schedule import BROKER, STORE, Lanes
from worker.local.data_folder import data_folder

_NETWORK = (
    hosts.cut_app_host,
    hosts.cut_redis_primary,
    hosts.cut_mongo_primary,
    hosts.cut_one_direction,
    hosts.separate_majorities,
    hosts.slow_host,
    hosts.freeze_host,
)
_FAILOVERS = (failover.hand_over_redis, failover.kill_redis_primary, failover.freeze_redis_primary)
LANES: Lanes = {
    STORE: {fault.__name__: fault for fault in (*_NETWORK, store.step_down)},
    BROKER: {fault.__name__: fault for fault in _FAILOVERS},
}
"""Redis fails over while the network and MongoDB are disturbed, as soon as all its servers are connected."""
KINDS = frozenset(name for faults in LANES.values() for name in faults)
_CALM_SECONDS = 20.0
"""Between two faults, for the stores to become whole and for requests to finish, most of which recovery takes."""
_LEAST_SECONDS = 60.0
_RATE = 20.0  # requests a second


@dataclass(frozen=True)
class Wanted:
    """What a run should have. `requests`: 0 for so many a second."""

    rounds: int = 1
    failovers: int = 2
    step_downs: int = 1
    fault_seconds: float = 15.0
    requests: int = 0
    seed: int = 1
    only: Sequence[str] | None = None
    """Names of faults, each as often as it should come, instead of rounds, failovers and step-downs."""

    @property
    def faults(self) -> Mapping[str, int]:
        """Returns the number of faults by kind."""
        if self.only is not None:
            return Counter(self.only)
        failovers = Counter(_FAILOVERS[number % len(_FAILOVERS)].__name__ for number in range(self.failovers))
        network = dict.fromkeys((fault.__name__ for fault in _NETWORK), self.rounds)
        return {**network, **failovers, store.step_down.__name__: self.step_downs}

    @property
    def seconds(self) -> float:
        """Returns how long requests are sent and faults injected."""
        network = {fault.__name__ for fault in _NETWORK}
        lengths = {name: _CALM_SECONDS + (self.fault_seconds if name in network else 0) for name in KINDS}
        lanes = [sum(lengths[name] * self.faults.get(name, 0) for name in faults) for faults in LANES.values()]
        return max(_LEAST_SECONDS, *lanes) / 0.9


def run(wanted: Wanted, keep: Path | None = None) -> Result:
    """Runs on hosts of its own, and removes everything afterwards. Raises Unavailable."""
    require()
    with data_folder(keep) as folder, cluster.running(folder, wanted.fault_seconds) as stores:
        seconds = wanted.seconds
        options = Options(
            requests=wanted.requests or round(_RATE * seconds),
            seconds=seconds,
            seed=wanted.seed,
            faults=wanted.faults,
            places=stores.places(),
            lanes=LANES,
        )
        addresses = [host.address for host in stores.network.hosts.values()]
        print(f"{len(addresses)} hosts, {addresses[0]} to {addresses[-1]}, for {seconds:.0f} s")
        return run_on(stores, folder, options)
