"""A Redis with two replicas and three Sentinels, as a test's own processes."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.certificates import Certificates
from support.places import HERE, Place
from support.redis_server import free_port, valkey_server
from support.waiting import eventually

NAME = "mymaster"
_SAFE = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "10")
"""As docs/scaling.md says."""
_ONCE: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}


@dataclass
class Sentinels:
    """The processes. A server that was killed can be started again, and becomes a replica."""

    folder: Path
    binary: str
    options: Sequence[str] = ()
    """Options of the Redis servers."""
    login: Sequence[str] = ()
    """Lines of the Sentinels' configuration with which they log in at Redis, and clients at them."""
    password: str | None = None
    certificates: Certificates | None = None
    """With them, servers and Sentinels speak TLS alone."""
    name: str = NAME
    down_after_ms: int = 1000
    places: Mapping[int, Place] = field(default_factory=dict)
    """Where servers and Sentinels run that are not on 127.0.0.1, by port."""
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])
    sentinel_ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])
    _processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def url(self, login: str = "", options: str = "", scheme: str = "sentinel") -> str:
        hosts = ",".join(f"{self.address(port)}:{port}" for port in self.sentinel_ports)
        return f"{scheme}://{login}{hosts}/{NAME}/0{options}"

    def address(self, port: int) -> str:
        """The address of a server or Sentinel."""
        return self._place(port).address

    def _place(self, port: int) -> Place:
        return self.places.get(port, HERE)

    def client(self, port: int, **options: Any) -> "redis.Redis":
        login: dict[str, Any] = {"password": self.password, **self._tls}
        return redis.Redis(self.address(port), port, socket_timeout=5, socket_connect_timeout=2, **login, **options)

    @property
    def _tls(self) -> dict[str, Any]:
        return {"ssl": True, "ssl_ca_certs": str(self.certificates.ca)} if self.certificates else {}

    def _listening(self, port: int) -> dict[str, str]:
        """The settings of a server or Sentinel that say how it listens, and connects to the others."""
        if self.certificates is None:
            return {"port": str(port)}
        made = self.certificates
        files = {"cert": made.server, "key": made.server_key, "ca-cert": made.ca}
        return {
            "port": "0",
            "tls-port": str(port),
            "tls-auth-clients": "no",
            "tls-replication": "yes",
            **{f"tls-{name}-file": str(file) for name, file in files.items()},
        }

    def primary(self) -> int:
        """The port of the primary, once the Sentinels that answer agree."""
        found: set[int] = set()
        for port in self.sentinel_ports:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError), self._sentinel(port) as client:
                state: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
                found.add(int(state[1]))
        assert len(found) == 1, found
        return found.pop()

    def _sentinel(self, port: int) -> "redis.Redis":
        password = next((line.split()[1] for line in self.login if line.startswith("requirepass ")), None)
        options: dict[str, Any] = {
            "password": password,
            "socket_timeout": 2,
            "decode_responses": True,
            **_ONCE,
            **self._tls,
        }
        return redis.Redis(self.address(port), port, **options)

    # --- faults -----------------------------------------------------------------------------------------

    def kill(self, port: int) -> None:
        """SIGKILL to a Redis or a Sentinel."""
        process = self._processes.pop(port)
        process.kill()
        process.wait(20)

    @contextlib.contextmanager
    def paused(self, port: int) -> Iterator[None]:
        """Stop a process, which continues at the end of the block as if no time had passed."""
        self._processes[port].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._processes[port].send_signal(signal.SIGCONT)

    def fail_over(self) -> None:
        """Let the Sentinels promote a replica although the primary is up."""
        with self._sentinel(self.sentinel_ports[0]) as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)

    def wait_for_another(self, than: int) -> int:
        """Wait until there is another primary than the one of this port, and it accepts writes."""

        def check() -> bool:
            port = self.primary()
            assert port != than
            with self.client(port) as client:
                role: Any = client.execute_command("ROLE")
                return bool(role[0] == b"master")

        eventually(check, 60)
        return self.primary()

    # --- start ------------------------------------------------------------------------------------------

    def start_redis(self, port: int, primary: int | None = None) -> None:
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        arguments = [part for name, value in self._listening(port).items() for part in (f"--{name}", value)]
        arguments += ["--bind", self.address(port), "--save", "", "--appendonly", "yes", *_SAFE, *self.options]
        if primary:
            arguments += ["--replicaof", f"{self.address(primary)} {primary}"]
        self._start(port, folder, [self.binary, *arguments, "--dir", str(folder), "--repl-diskless-sync-delay", "0"])

    def start_sentinel(self, port: int) -> None:
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        config = folder / "sentinel.conf"
        if not config.exists():
            lines = [
                *(f"{name} {value}" for name, value in self._listening(port).items()),
                f"bind {self.address(port)}",
                f"dir {folder}",
                f"sentinel monitor {NAME} {self.address(self.ports[0])} {self.ports[0]} 2",
                f"sentinel down-after-milliseconds {NAME} {self.down_after_ms}",
                f"sentinel failover-timeout {NAME} 5000",
                *self.login,
            ]
            config.write_text("\n".join(lines) + "\n")
        self._start(port, folder, [self.binary, str(config), "--sentinel"])

    def _start(self, port: int, folder: Path, argv: list[str]) -> None:
        with (folder / "log").open("ab") as log:
            command = self._place(port).command(argv)
            self._processes[port] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def start(self) -> None:
        for port in self.ports:
            self.start_redis(port, None if port == self.ports[0] else self.ports[0])
        eventually(lambda: self._has_replicas(self.ports[0]), 30)
        for port in self.sentinel_ports:
            self.start_sentinel(port)
        eventually(self._watches, 30)

    def is_whole(self) -> bool:
        """Whether the primary has both replicas, and every Sentinel knows it."""
        return self._has_replicas(self.primary()) and self._watches()

    def _has_replicas(self, primary: int) -> bool:
        with contextlib.suppress(redis.RedisError), self.client(primary, **_ONCE) as client:
            info: Any = client.info("replication")
            return all(info.get(f"slave{number}", {}).get("state") == "online" for number in (0, 1))
        return False

    def _watches(self) -> bool:
        for port in self.sentinel_ports:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError), self._sentinel(port) as client:
                masters: Any = client.sentinel_masters()
                state = masters[NAME]
                if state["num-other-sentinels"] == 2 and state["num-slaves"] == 2:
                    continue
            return False
        return True

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(20)


@contextlib.contextmanager
def sentinels(folder: Path, **options: Any) -> Iterator[Sentinels]:
    """Start the servers in a folder, and kill them at the end of the block."""
    folder.mkdir(exist_ok=True)
    made = Sentinels(folder, **{"binary": valkey_server(), **options})
    try:
        made.start()
        yield made
    finally:
        made.stop()
