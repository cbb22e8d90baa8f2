"""kombu's Redis transport, made safe against any content of Redis.

kombu uses the content of lists, hashes and pub/sub messages as it finds it, within the event loop of Celery's parent
process: an exception there ends the worker, whose shutdown puts the message back for the next one. This transport
checks the messages of our queues as soon as they are taken from their list (see `payloads`), and drops control and
event messages that cannot be processed.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, ClassVar

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as redis_transport
from kombu.utils.json import dumps
from pydantic_core import from_json

from worker.celery_support.payloads import original, read_payload
from worker.errors import InvalidMessage
from worker.log import get_logger
from worker.settings import settings
from worker.stores.events import rejection
from worker.stores.redis_errors import name_of
from worker.stores.wakeups import QUEUES

log = get_logger(__name__)
base: Any = redis_transport  # its stubs lack most methods

# kombu's connection errors include KeyError, which odd messages raise too.
CONNECTION_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in base.Transport.connection_errors if kind is not KeyError
)
_PAUSED_SECONDS = 0.1
"""How long a read waits for a message while a queue is paused, and so how soon `resume` takes effect."""
_PASSED_ON = (*CONNECTION_ERRORS, redis.RedisError, Empty)


# KEYS: kombu's hash, index and mutex of unacknowledged messages. ARGV: by how many seconds a time may be ahead, and the
# maximum lifetime of the mutex in ms.
_INDEX = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if redis.call('HLEN', KEYS[1]) > redis.call('ZCARD', KEYS[2]) then
  for _, tag in ipairs(redis.call('HKEYS', KEYS[1])) do redis.call('ZADD', KEYS[2], 'NX', now, tag) end
end
for _, tag in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], now + ARGV[1], '+inf', 'LIMIT', 0, 10000)) do
  redis.call('ZADD', KEYS[2], now, tag)
end
redis.call('PEXPIRE', KEYS[3], ARGV[2], 'LT')
"""
_MAX_AHEAD_SECONDS = 120
"""How far the clock of a worker may be ahead of that of Redis."""


class QoS(base.QoS):  # type: ignore[misc]
    """Keeps track of unacknowledged messages, and puts those of a dead worker back into their lists."""

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Put messages back that have been unacknowledged for too long. Celery's parent calls this every 10 s.

        kombu finds a message only through its index, once the time in the index has passed, and only while there is no
        mutex. This method first repairs all three. A message without an index entry gets one. A time in the future,
        from a worker whose clock is ahead, becomes the present. A mutex without a lifetime, which kombu itself never
        creates, gets one.
        """
        keys = (self.unacked_key, self.unacked_index_key, self.unacked_mutex_key)
        longest = self.unacked_mutex_expire * 1000
        try:
            with self.channel.conn_or_acquire() as client:
                client.eval(_INDEX, len(keys), *keys, _MAX_AHEAD_SECONDS, longest)
        except redis.ResponseError as error:
            log.warning("unacked_repair_failed", reason=name_of(error))
        super().restore_visible(*args, **kwargs)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put an unacknowledged message back into its list, or record it as rejected if it is not one of ours."""

        def restore(pipe: Any) -> None:
            entry = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            self._remove_from_indices(tag, pipe)
            if entry is None:
                return
            try:
                payload, exchange, queue = _unacknowledged(entry)
            except (ValueError, TypeError, KeyError):
                pipe.xadd(settings().rejected_stream, _rejection(entry))
                return
            if queue in QUEUES:
                (pipe.lpush if leftmost else pipe.rpush)(queue, dumps(payload))
            else:  # of another Celery application that shares this database
                self.channel._do_restore_message(payload, exchange, queue, pipe, leftmost)

        with self.channel.conn_or_acquire(client) as connected:
            connected.transaction(restore, self.unacked_key)


def _unacknowledged(entry: bytes) -> tuple[dict[str, Any], str, str]:
    """Read an entry of kombu's hash of unacknowledged messages: the payload, the exchange and the queue.

    Raises ValueError, TypeError, KeyError.
    """
    payload, exchange, queue = from_json(entry)
    payload["properties"]["delivery_info"]["redelivered"] = True
    if not isinstance(exchange, str) or not isinstance(queue, str):
        raise TypeError
    return payload, exchange, queue


def _rejection(entry: bytes) -> Any:
    error = InvalidMessage([{"field": "unacked", "message": "should hold a message of a queue of this project"}])
    return rejection(error.outcome(), original(entry, "unacked", len(entry)), "task:")


class Channel(base.Channel):  # type: ignore[misc]
    """Reads messages of our queues, and control and event messages. Each message is checked before Celery sees it.

    A malformed one is replaced by a carrier (`worker.celery_support.payloads`), so that it cannot end the worker.
    """

    QoS = QoS
    _popped: ClassVar[deque[tuple[str, bytes]]] = deque()
    """Messages that were taken from their list but not yet stored as unacknowledged, because Redis failed."""
    _shared_client: Any = None
    _paused: frozenset[str] = frozenset()

    def pause(self, queue: str) -> None:
        """Leave the messages of a queue to other workers until `resume`."""
        self._paused |= {queue}
        self._update_queue_cycle()

    def resume(self, queue: str) -> None:
        """Take messages of the queue again."""
        self._paused -= {queue}
        self._update_queue_cycle()

    def _update_queue_cycle(self) -> None:
        self._queue_cycle.update(queue for queue in self.active_queues if queue not in self._paused)

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return the channel's client, which takes a connection from the pool for each command.

        kombu creates one for each command, which takes a third of the time of a publish.
        """
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._shared_client is None or self._shared_client.connection_pool is not self.pool:
            self._shared_client = super()._create_client()
        return self._shared_client

    def close(self) -> None:
        """Close the channel, even if the reply that it waits for never comes.

        kombu reads that reply first and, if this fails, closes nothing. Celery would then close the channel again, when
        its connection no longer has an address, and the worker would end with an AttributeError.
        """
        try:
            super().close()
        except _PASSED_ON:  # type: ignore[misc]
            super().close()  # nothing is waited for any more

    def _brpop_start(self, timeout: float | None = None) -> None:
        while self._popped:
            queue, item = self._popped[0]
            with self.conn_or_acquire() as client:
                client.rpush(queue, item)
            self._popped.popleft()
        super()._brpop_start(_PAUSED_SECONDS if self._paused else timeout)

    def _brpop_read(self, **options: Any) -> bool:
        """Replace kombu's method. Only the reading of the payload differs."""
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not reply:
                raise Empty
            key, item = reply
            queue = key.decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._deliver(queue, item)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _deliver(self, queue: str, item: bytes) -> None:
        if queue not in QUEUES:
            with _dropping_errors(queue):
                self.connection._deliver(base.loads(item.decode()), queue)
            return
        payload = read_payload(item, queue)
        try:
            self.connection._deliver(payload, queue)
        except Exception:
            if payload["properties"]["delivery_tag"] not in self.qos._delivered:
                self._popped.append((queue, item))
            raise

    def _receive_one(self, client: Any) -> Any:
        """Receive a control message or an event over pub/sub."""
        with _dropping_errors("pub/sub"):
            return super()._receive_one(client)
        return None

    def record_rejected(self, tag: str, fields: Any) -> None:
        """Record a rejected message and acknowledge it, in one step. Raises redis-py's errors."""
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.xadd(settings().rejected_stream, fields)
            self.qos._remove_from_indices(tag, pipe)
            pipe.execute()
        base.virtual.QoS.ack(self.qos, tag)


@contextmanager
def _dropping_errors(source: str) -> Iterator[None]:
    """Drop a message whose processing raises in the block, because no one waits for it.

    Connection errors are raised.
    """
    try:
        yield
    except _PASSED_ON:  # type: ignore[misc]
        raise
    except Exception as error:  # noqa: BLE001 - one message must not end the worker
        log.warning("control_message_dropped", source=source, reason=type(error).__name__)


class Transport(base.Transport):  # type: ignore[misc]
    """kombu's Redis transport with the safe channel."""

    Channel = Channel


class SentinelChannel(Channel, base.SentinelChannel):  # type: ignore[misc]
    """The safe channel, to the primary that Sentinels name."""


class SentinelTransport(base.SentinelTransport):  # type: ignore[misc]
    """kombu's Sentinel transport with the safe channel."""

    Channel = SentinelChannel


def register() -> None:
    """Let kombu use these transports for `redis://`, `rediss://`, `redis+socket://` and `sentinel://`."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{SentinelTransport.__name__}"
