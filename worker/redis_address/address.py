"""The address of Redis (a host, a Unix socket or Sentinels), and settings for redis-py, Celery, kombu and Flower."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import redis
    import redis.asyncio

Host = tuple[str, int]
"""A host name or IP address, and a port."""
_SENTINEL_SECONDS = 1.0
"""How long one Sentinel may take to connect or to answer before the next one is asked."""


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The Sentinels that know where the primary is, the name under which they watch it, and their own login."""

    hosts: tuple[Host, ...]
    name: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server and database, and how to connect to it. Exactly one of host, socket and sentinels is set."""

    host: str | None = None
    port: int = 0
    socket: str | None = None
    """The path of a Unix socket."""
    sentinels: Sentinels | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: dict[str, Any] | None = field(default=None, repr=False)
    """The options of redis-py's SSLConnection, always with `ssl_cert_reqs` and `ssl_check_hostname`. None: no TLS."""

    def __str__(self) -> str:
        """Return the address without a password, for error messages."""
        if self.sentinels:
            return f"{self.sentinels.name} of the Sentinels {', '.join(map(shown, self.sentinels.hosts))}"
        return self.socket or shown((self.host or "", self.port))

    @property
    def verifies(self) -> bool:
        """Whether the server has to prove its identity. Without TLS it cannot."""
        return self.tls is not None and self.tls["ssl_cert_reqs"] != "none" and bool(self.tls["ssl_check_hostname"])

    @property
    def weakness(self) -> str | None:
        """Return what the address does not verify although it uses TLS, or None."""
        if self.tls is None or self.verifies:
            return None
        if self.tls["ssl_cert_reqs"] == "none":
            return "ssl_cert_reqs=none: the certificate of Redis is not verified, so any server can obtain the password"
        return "ssl_check_hostname=false: a certificate for any other host is accepted"

    # --- redis-py -------------------------------------------------------------------------------------------

    def client(self, *, single_connection_client: bool = False, **options: Any) -> "redis.Redis":
        """Return a redis-py client, which connects when it is used.

        With Sentinels, each new connection asks for the primary.

        Args:
            single_connection_client: Whether the client keeps one connection, instead of a pool that threads share.
            **options: Options of redis-py's connections, such as `socket_timeout` in seconds.

        Returns:
            The client. A connection that loses the primary, or finds that it has become a replica or refuses writes
            because another server is the primary, raises redis.ConnectionError; the next command connects to the new
            primary.
        """
        import redis  # imported here, because some processes read settings but need no client
        from redis.sentinel import Sentinel

        server = self._server
        if server:
            return redis.Redis(**server, **self._common, single_connection_client=single_connection_client, **options)
        from .primary import PrimaryConnection, PrimarySSLConnection

        hosts, name, own = self._sentinels
        watching: Any = Sentinel(hosts, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
        options["connection_class"] = PrimarySSLConnection if self.tls is not None else PrimaryConnection
        primary: redis.Redis = watching.master_for(name, **self._common, **options)
        if not single_connection_client:
            return primary
        return redis.Redis(connection_pool=primary.connection_pool, single_connection_client=True)

    def async_client(self, **options: Any) -> "redis.asyncio.Redis":
        """Return a redis-py client for asyncio, which connects when it is used. See `client`."""
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.asyncio.sentinel import Sentinel
        from redis.backoff import NoBackoff

        from .primary import AsyncPrimaryConnection, AsyncPrimarySSLConnection

        server = self._server
        if server:
            return redis.asyncio.Redis(**server, **self._common, **options)
        hosts, name, own = self._sentinels
        own["retry"] = Retry(NoBackoff(), 0)
        watching: Any = Sentinel(hosts, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
        options["connection_class"] = AsyncPrimarySSLConnection if self.tls is not None else AsyncPrimaryConnection
        primary: redis.asyncio.Redis = watching.master_for(name, **self._common, **options)
        return primary

    def sentinel_options(self) -> dict[str, Any]:
        """Return keyword arguments of `redis.Redis` for the Sentinels themselves, besides host and port.

        They have no retries, because the next Sentinel is asked if one does not answer.
        """
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        own = self.sentinels
        return {
            "username": own.username if own else None,
            "password": own.password if own else None,
            "socket_timeout": _SENTINEL_SECONDS,
            "socket_connect_timeout": _SENTINEL_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            **self._tls,
        }

    @property
    def _sentinels(self) -> tuple[tuple[Host, ...], str, dict[str, Any]]:
        own = self.sentinels
        assert own is not None  # noqa: S101 - the caller has found no server
        return own.hosts, own.name, self.sentinel_options()

    @property
    def _server(self) -> dict[str, Any] | None:
        if self.sentinels:
            return None
        return {"unix_socket_path": self.socket} if self.socket else {"host": self.host, "port": self.port}

    @property
    def _common(self) -> dict[str, Any]:
        return {"db": self.database, "username": self.username, "password": self.password, **self._tls}

    @property
    def _tls(self) -> dict[str, Any]:
        return {"ssl": True, **self.tls} if self.tls is not None else {}

    # --- Celery ---------------------------------------------------------------------------------------------

    def celery_settings(self, transport_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the settings of Celery, and of Flower, that connect to this address.

        Args:
            transport_options: Options for kombu's transport, which the result extends.

        Returns:
            `broker_url`, `broker_use_ssl` and `broker_transport_options`.

        Example:
            app.conf.update(address.celery_settings(app.conf.broker_transport_options))
        """
        options = dict(transport_options or {})
        if self.sentinels:
            options |= {"master_name": self.sentinels.name, "sentinel_kwargs": self.sentinel_options()}
        return {
            "broker_url": self._broker_url,
            "broker_use_ssl": False if self.tls is None else dict(self.tls),
            "broker_transport_options": options,
        }

    @property
    def _broker_url(self) -> str:
        user = quote(self.username or "", safe="")
        password = f":{quote(self.password, safe='')}" if self.password else ""
        login = f"{user}{password}@" if user or password else ""
        if self.socket:
            return f"redis+socket://{login}{quote(self.socket)}?virtual_host={self.database}"
        if self.sentinels:  # kombu wants each Sentinel in a URL of its own
            return ";".join(f"sentinel://{login}{shown(host)}/{self.database}" for host in self.sentinels.hosts)
        scheme = "redis" if self.tls is None else "rediss"
        return f"{scheme}://{login}{shown((self.host or '', self.port))}/{self.database}"


def shown(host: Host) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"[{host[0]}]:{host[1]}" if ":" in host[0] else f"{host[0]}:{host[1]}"
