"""Several hosts on one machine: network namespaces, each with an address, connected by a bridge.

The bridge is in a namespace of its own, so that neither the machine's firewall nor its interfaces matter. This process
stays where it is and reaches the hosts as `OUTSIDE`. Needs Linux, root and iproute2's `ip`.

Links are cut in silence, as a firewall or a dead switch cuts them: nothing arrives, and nobody answers (no RST, no ICMP
error). Each host knows the hardware addresses of the others by heart; to cut a link, one host is told a wrong one.
"""

import contextlib
import ipaddress
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.places import Place

OUTSIDE = "outside"
"""The name of this process's own namespace, whose clients use the hosts."""
_PREFIX = "snapshots"
_SWITCH = "switch"
_NOWHERE = "02:00:00:00:00:fe"
"""A hardware address that nobody has."""
_POOLS = ("10.64.0.0/10", "172.20.0.0/14", "192.168.128.0/17", "198.18.0.0/15")
"""Private networks, and the one for benchmarks (RFC 2544), in which a free /24 is looked for."""
_TRIES = 200

Link = tuple[str, str]
"""Who sends, and who then receives nothing."""


class Unavailable(Exception):
    """Hosts cannot be made here; the text says why."""


@dataclass(frozen=True)
class Host:
    """A host. Its interface is `eth0`."""

    name: str
    namespace: str
    number: int
    address: str

    @property
    def hardware(self) -> str:
        return f"02:00:00:00:00:{self.number:02x}"

    @property
    def place(self) -> Place:
        return Place(self.address, ("ip", "netns", "exec", self.namespace))

    def pids(self) -> list[int]:
        """Returns the ids of all its processes."""
        return _pids(self.namespace)


@dataclass
class Network:
    """Hosts by name, and how to disturb them."""

    hosts: dict[str, Host]
    outside: Host
    device: str
    """The interface of `OUTSIDE`."""
    _cut: Counter[Link] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def everyone(self) -> list[str]:
        return [*self.hosts, OUTSIDE]

    def links_of(self, name: str) -> list[Link]:
        """Returns all links of a host, in both directions."""
        return links_between([name], [other for other in self.everyone if other != name])

    @contextlib.contextmanager
    def cut(self, links: Iterable[Link]) -> Iterator[None]:
        """Lets these links lose everything within the block. Blocks may overlap."""
        links = list(links)
        self._change(links, 1)
        try:
            yield
        finally:
            self._change(links, -1)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[int]:
        """Stops all processes of a host within the block, and yields how many."""
        stopped = self.hosts[name].pids()
        try:
            _signal(stopped, signal.SIGSTOP)
            yield len(stopped)
        finally:
            _signal(stopped, signal.SIGCONT)

    @contextlib.contextmanager
    def slow(self, name: str, seconds: float, loss: float) -> Iterator[str]:
        """Delays what a host sends, and loses a share of what it sends; yields how it was done.

        By `tc netem`, or, where the kernel has none, by `chaos.hosts.wire`: half in each direction.
        """
        host = self.hosts[name]
        netem = ["netem", "delay", f"{seconds * 1000:g}ms", "loss", f"{loss * 100:g}%"]
        tc = ["ip", "netns", "exec", host.namespace, "tc", "qdisc"]
        if subprocess.run([*tc, "add", "dev", "eth0", "root", *netem], capture_output=True, check=False).returncode:
            with self._wire(host, seconds / 2, loss / 2):
                yield "wire"
            return
        try:
            yield "netem"
        finally:
            subprocess.run([*tc, "del", "dev", "eth0", "root"], check=True)

    @contextlib.contextmanager
    def _wire(self, host: Host, seconds: float, loss: float) -> Iterator[None]:
        """Takes a host's port from the bridge, and connects the two by a program."""
        switch, port = _of_run(host.namespace, _SWITCH), f"p{host.number}"
        _batch([f"link set {port} nomaster"], switch)
        argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("wire.py"))]
        argv += [port, f"w{host.number}", f"{seconds}", f"{loss}"]
        wire = subprocess.Popen(["ip", "netns", "exec", switch, *argv], stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            wire.kill()
            wire.wait(10)
            _batch([f"link set {port} master br0"], switch)

    def _change(self, links: Sequence[Link], by: int) -> None:
        with self._lock:
            for link in links:
                self._cut[link] += by
            for sender in {sender for sender, _ in links}:
                host = self.outside if sender == OUTSIDE else self.hosts[sender]
                orders = [self._neighbour(host, receiver) for receiver in self.everyone if receiver != sender]
                _batch(orders, host.namespace)

    def _neighbour(self, host: Host, receiver: str) -> str:
        other = self.outside if receiver == OUTSIDE else self.hosts[receiver]
        hardware = _NOWHERE if self._cut[host.name, receiver] else other.hardware
        device = self.device if host is self.outside else "eth0"
        return f"neigh replace {other.address} lladdr {hardware} nud permanent dev {device}"


def links_between(some: Iterable[str], others: Sequence[str]) -> list[Link]:
    """Returns all links between two groups, in both directions."""
    pairs = [(one, other) for one in some for other in others]
    return pairs + [(other, one) for one, other in pairs]


# --- set up and tear down -----------------------------------------------------------------------------------


@contextlib.contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Makes hosts of these names, and removes them with all their processes at the end. See `require`."""
    remove_stale()
    run = f"{_PREFIX}-{os.getpid()}-{random.randrange(16**4):04x}"
    try:
        yield _build(run, names)
    finally:
        _remove(f"{run}-")


def require() -> None:
    """Raises Unavailable, with the reason, if this machine or user cannot make hosts."""
    if sys.platform != "linux":
        raise Unavailable("needs Linux: hosts are network namespaces")
    if os.geteuid() != 0:
        raise Unavailable("needs root, to create network namespaces: run it with sudo")
    if shutil.which("ip") is None or shutil.which("tc") is None:
        raise Unavailable("needs `ip` and `tc`: install iproute2 (apt-get install iproute2)")
    probe = f"{_PREFIX}-{os.getpid()}-probe"
    made = _ip(["netns", "add", probe])
    if made.returncode == 0:
        made = _ip(["-n", probe, "link", "add", "br0", "type", "bridge"])
    if made.returncode == 0:
        made = _ip(["-n", probe, "link", "add", "p1", "type", "veth", "peer", "name", "p2"])
    _ip(["netns", "del", probe])
    if made.returncode != 0:
        raise Unavailable(f"cannot create network namespaces with a bridge: {made.stderr.strip()}")


def _build(run: str, names: Sequence[str]) -> Network:
    net = _free_network()
    addresses = [str(address) for address in net.hosts()]
    hosts = {
        name: Host(name, f"{run}-{name}", number, addresses[number - 1]) for number, name in enumerate(names, start=1)
    }
    outside = Host(OUTSIDE, "", len(names) + 1, addresses[len(names)])
    device = f"s{run.removeprefix(_PREFIX).replace('-', '')}"[:15]
    switch = f"{run}-{_SWITCH}"
    made = Network(hosts, outside, device)
    orders = [f"netns add {name}" for name in (switch, *(host.namespace for host in hosts.values()))]
    orders += [
        f"link add eth0 netns {host.namespace} type veth peer name p{host.number} netns {switch}"
        for host in hosts.values()
    ]
    orders.append(f"link add {device} type veth peer name p{outside.number} netns {switch}")
    _batch(orders)
    ports = [f"p{host.number}" for host in (*hosts.values(), outside)]
    # A second way from each port to the bridge, which a wire can use.
    ways = [f"link add w{host.number} type veth peer name b{host.number}" for host in hosts.values()]
    ports += [f"b{host.number}" for host in hosts.values()]
    up = [f"link set {port} master br0 up" for port in ports] + [
        f"link set w{host.number} up" for host in hosts.values()
    ]
    _batch(["link add br0 type bridge", "link set br0 up", *ways, *up], switch)
    for host in (*hosts.values(), outside):
        own = device if host is outside else "eth0"
        _batch(
            [
                *([] if host is outside else ["link set lo up"]),
                f"link set {own} address {host.hardware}",
                f"addr add {host.address}/24 dev {own}",
                f"link set {own} up",
            ],
            host.namespace,
        )
    made._change([(name, OUTSIDE) for name in hosts] + [(OUTSIDE, name) for name in hosts], 0)
    return made


def _free_network() -> ipaddress.IPv4Network:
    """Returns a private /24 to which this machine has no route but the default one. Raises Unavailable."""
    routes = json.loads(_ip(["-4", "-j", "route", "show", "table", "all"]).stdout or "[]")
    taken = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in routes
        if route["dst"] not in {"default", "0.0.0.0/0"}
    ]
    for pool in _POOLS:
        subnets = list(ipaddress.IPv4Network(pool).subnets(new_prefix=24))
        for net in random.sample(subnets, min(_TRIES, len(subnets))):
            if not any(net.overlaps(other) for other in taken if other.version == 4):
                return net
    raise Unavailable("found no private network of 256 addresses that this machine does not use")


def remove_stale() -> None:
    """Removes what runs left behind that were killed."""
    names = {line.split()[0] for line in _ip(["netns", "list"]).stdout.splitlines() if line.strip()}
    for name in names:
        parts = name.split("-")
        if parts[0] == _PREFIX and len(parts) > 2 and parts[1].isdigit() and not Path(f"/proc/{parts[1]}").exists():
            _remove(name)


def _remove(prefix: str) -> None:
    """Kills all processes of the namespaces whose names begin so, and removes these with all interfaces."""
    names = [line.split()[0] for line in _ip(["netns", "list"]).stdout.splitlines() if line.startswith(prefix)]
    for name in names:
        _signal(_pids(name), signal.SIGKILL)
    for name in names:
        _ip(["netns", "del", name])


# --- iproute2 -----------------------------------------------------------------------------------------------


def _of_run(namespace: str, name: str) -> str:
    """Returns another namespace of the same run."""
    return "-".join([*namespace.split("-")[:3], name])


def _pids(namespace: str) -> list[int]:
    return [int(line) for line in _ip(["netns", "pids", namespace]).stdout.split()]


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _ip(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def _batch(orders: Sequence[str], namespace: str = "") -> None:
    """Runs several commands of `ip`, in a namespace or here. Raises RuntimeError with its message if one fails."""
    where = ["-n", namespace] if namespace else []
    text = "\n".join(orders) + "\n"
    done = subprocess.run(["ip", *where, "-batch", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip failed: {done.stderr.strip()}")
