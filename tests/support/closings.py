"""Watches closings in a thread, and checks which conversations have a request."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from bson import ObjectId

from support.pipeline import publish_nothing
from support.platform import Platform
from support.waiting import eventually
from worker.closings.accept import Closings
from worker.closings.change_stream import ClosingsWatch
from worker.closings.results import ClosingReport, ClosingResult
from worker.service import Service
from worker.settings import Settings
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Connections


def without_delays(settings: Settings) -> Settings:
    return settings.model_copy(update={"settle_seconds": 0.0, "retry_floor": timedelta(seconds=0.05)})


@contextmanager
def watching(settings: Settings, closings: Callable[[Service], Closings] | None = None) -> Iterator[None]:
    """Runs a watch with connections of its own, as in another process. It is watching once the block begins."""
    connections = Connections(settings)
    service = Service(connections, publish_nothing)
    watch = ClosingsWatch(service, closings(service) if closings else None)
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: Checkpoints(connections).get("closings"), 45)
        yield
    finally:
        stop.set()
        thread.join(20)
        connections.close()
        assert not thread.is_alive()


def closings_that_break_on(service: Service, conversation: ObjectId, error: Exception | None = None) -> Closings:
    """Closings that fail for a batch that contains this conversation, by default because of a bug."""

    class Breaking(Closings):
        def accept(self, closings: Sequence[ClosingReport]) -> list[ClosingResult]:
            if any(closing.conversation_id == conversation for closing in closings):
                raise error or KeyError("unexpected")
            return super().accept(closings)

    return Breaking(service)


def closed(platform: Platform) -> set[ObjectId]:
    """Returns the conversations that have a request."""
    return {request["conversationId"] for request in platform.requests()}


def wait_for(platform: Platform, conversations: Sequence[ObjectId]) -> None:
    """Wait until each of these conversations has a request, and check that none has two."""
    eventually(lambda: closed(platform) >= set(conversations), 45)
    assert sorted(request["conversationId"] for request in platform.requests()) == sorted(conversations)


def token(service: Service) -> dict[str, Any]:
    return dict(Checkpoints(service.connections).get("closings"))
