"""The synchronous client. It drives the same steps as the asyncio client."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .connecting import OPTIONS, read_address
from .following import follow
from .models import Event, Outcome, RequestFields, Sent, fields_of
from .sending import send_closing, send_request
from .steps import Deliver, Driver, Execute, Names, Sleep, Steps, raise_first_error
from .waiting import wait

Result = TypeVar("Result")


class SnapshotClient:
    """Requests snapshots, waits for their outcomes and reads events.

    All threads of a process can share one client. Close it with `close`, or use it as a context manager.

    Example:
        with SnapshotClient("redis://localhost:6379/0") as client:
            sent = client.request("6a1b2c3d4e5f60718293a4b5", "6a1b2c3d4e5f60718293a4c0", tags=["refund"])
            outcome = client.wait(sent, timeout=30)
            print(outcome.snapshot_id if outcome.completed else outcome.error)
    """

    def __init__(self, redis_url: str, *, durable: bool = False, names: Names | None = None) -> None:
        """Create a client. It connects when it is first used.

        Args:
            redis_url: The service's Redis: `redis://`, `rediss://` (TLS), `unix://`, `sentinel://` or `sentinels://`,
                as `SNAPSHOTS_REDIS_URL` of the service.
            durable: Whether `request` and `resolved` return only once the entry is on Redis's disk. This needs Redis
                7.2 or Valkey with `appendonly yes`, and takes up to a second with `appendfsync everysec`.
            names: The names of the streams, if the service's settings change them.

        Raises:
            InvalidSettings: The URL is not valid. The message names the faulty part, and never contains a password.
        """
        self._redis: Any = read_address(redis_url).client(retry=Retry(NoBackoff(), 0), **OPTIONS)
        self._durable = durable
        self._checked = not durable
        self._names = names or Names()

    def request(self, organization_id: object, contact_id: object, **fields: Unpack[RequestFields]) -> Sent:
        """Send a request for a snapshot of a conversation, or of all messages of a contact.

        The request is on the stream when this returns. It is accepted once a listener has read it, milliseconds later.

        Args:
            organization_id: The organization, as a bson.ObjectId or text of 24 hex digits. All ids have these types.
            contact_id: The contact whose messages the snapshot copies.
            **fields: The optional fields of the request, which `RequestFields` describes.

        Returns:
            The request id and the position in the stream. Pass it to `wait`.

        Raises:
            InvalidRequest: A field is not valid; nothing was sent. `errors` lists each fault as `{field, message}`.
            BrokerUnavailable: Redis was unreachable in four attempts, or refused the command.
            NotDurable: With `durable`, Redis did not confirm within 3 s that the entry is on disk, or cannot do so.

        After BrokerUnavailable and NotDurable, Redis may have the request. To retry it without the risk of a second
        snapshot, pass `request_id=error.details["requestId"]`.

        Example:
            sent = client.request(organization, contact, conversation_id=conversation, quality="good")
        """
        named = fields_of(organization_id, contact_id, fields)
        sent = self._run(send_request(self._names, named, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    def resolved(self, organization_id: object, conversation_id: object) -> str:
        """Report that a conversation was resolved, so that the organization's policy may make a snapshot of it.

        The service also learns this from MongoDB's change stream. All reports of one closing together make one request.

        Args:
            organization_id: The organization, as a bson.ObjectId or text of 24 hex digits.
            conversation_id: The conversation. Its document should be resolved within the next minute; otherwise the
                entry is rejected as `not_resolved_yet`.

        Returns:
            The id of the stream entry. The outcome is an event; `wait` does not apply.

        Raises:
            InvalidRequest: An id is not valid; nothing was sent.
            BrokerUnavailable: Redis was unreachable in four attempts, or refused the command. It is safe to retry.
            NotDurable: With `durable`, Redis did not confirm that the entry is on disk. It is safe to retry.

        Example:
            client.resolved(organization, conversation)
        """
        fields = {"organizationId": organization_id, "conversationId": conversation_id}
        sent = self._run(send_closing(self._names, fields, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    def wait(self, sent: Sent | str, timeout: float = 30.0) -> Outcome:
        """Wait until a request is completed or has failed.

        Args:
            sent: What `request` returned, or the request id of a request that was sent elsewhere. A request id is
                searched for in the events of all organizations, which are kept for a week.
            timeout: How many seconds to wait. 0 reads only the entries already in the streams.

        Returns:
            The outcome, with the id of the snapshot or the error. A failed request is an outcome and raises nothing.

        Raises:
            TimeoutError: There was no outcome in time. The request may still finish; it is safe to wait again.
            Rejected: The service refused the entry, for example because another request has the same id. `details`
                says why. Raised only if `sent` is a `Sent`.
            BrokerUnavailable: Redis refused a command. Lost connections are retried until the timeout instead.

        Example:
            outcome = client.wait(sent, timeout=5)
            if not outcome.completed:
                log.warning("no snapshot: %s", outcome.error.code)
        """
        return self._run(wait(self._names, sent, timeout))

    def events(
        self, group: str, consumer: str, *, take_over_after: float = 60.0, timeout: float | None = None
    ) -> Iterator[Event]:
        """Yield the events of completed and failed requests, each at least once for the group.

        The group starts at the beginning of the stream, which holds a week of events. This consumer's unacknowledged
        events come first, then those of dead consumers, then new ones. An event is acknowledged when the loop asks for
        the next one: if the loop ends or the process dies before, the event is delivered again next time.

        Lost connections are retried. If Redis lost its data, the group is created again; events that this iterator has
        yielded are then skipped, but a restarted process gets them again. So ignore repeats of an `event.id`.

        Args:
            group: The name of the consumer group. All processes that share the work use the same name.
            consumer: The name of this process in the group. It must stay the same after a restart.
            take_over_after: Seconds after which the unacknowledged events of another consumer are taken over. Must be
                longer than twice the processing of an event.
            timeout: Stop after this many seconds without an event; with 0, after the entries already in the stream.
                None: never stop.

        Raises:
            InvalidRequest: `take_over_after` is not greater than 0.
            BrokerUnavailable: Redis refused a command, for example because of the user's permissions.

        Example:
            for event in client.events("billing", "billing-1"):
                if event.type == "training.snapshot.completed":
                    print(event.data.request_id, event.subject)
        """
        steps = follow(self._names, group, consumer, take_over_after=take_over_after, timeout=timeout)
        driver = Driver(steps)
        while not driver.done:
            if isinstance(driver.step, Deliver):
                yield driver.step.event
                driver.send(None)
            else:
                self._advance(driver)

    def close(self) -> None:
        """Close the connections. The client connects again if it is used again."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- steps ------------------------------------------------------------------------------------------

    def _run(self, steps: Steps[Result]) -> Result:
        driver = Driver(steps)
        while not driver.done:
            self._advance(driver)
        result: Result = driver.result
        return result

    def _advance(self, driver: Driver[Any]) -> None:
        try:
            reply = self._do(driver.step)
        except redis.RedisError as error:
            driver.throw(error)
        else:
            driver.send(reply)

    def _do(self, step: Execute | Sleep) -> Any:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        with self._redis.pipeline(transaction=False) as pipeline:
            for name, args, kwargs in step.commands:
                getattr(pipeline, name)(*args, **kwargs)
            return raise_first_error(pipeline.execute(raise_on_error=False))
