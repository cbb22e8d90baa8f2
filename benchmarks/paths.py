"""Our paths, timed until the last event."""

import time

from benchmarks.actors import Actor
from benchmarks.pipeline import pipeline
from benchmarks.runs import Run
from benchmarks.session import Session

_PRODUCER = "benchmarks.producer"


def interactive(session: Session, number: int) -> Run:
    """Accept requests one by one, one message each, while the workers are stopped."""
    return _beside_stopped_workers(session, number, "interactive", session.options.amounts.interactive, "one")


def celery(session: Session, number: int) -> Run:
    """Send Celery messages by task name while the workers are stopped. So it also measures how they are accepted."""
    return _beside_stopped_workers(session, number, "celery", session.options.amounts.celery, "celery")


def _beside_stopped_workers(session: Session, number: int, kind: str, count: int, tag: str) -> Run:
    """Let a producer finish while the workers are stopped; measure from when they continue."""
    with (
        pipeline(session) as ours,
        Actor(session, _PRODUCER, kind, ours.order(count, tag)) as producer,
    ):
        meters = ours.meters()
        meters.start()
        with ours.held("worker"):
            producer.cue()
            report = producer.report()
            released = time.time()
        seconds = ours.wait_for_events(count, meters.look) - released
        finished = ours.check(count)
        costs = meters.stop(count, {"producer": report["cpu"]})
    producing = report["ended"] - report["began"]
    whole = count / (producing + seconds)
    return Run(kind, number, count, count / seconds, costs, whole, finished, count / producing)


def stream(session: Session, number: int) -> Run:
    """Add entries to the intake stream while the listener is stopped; measure from the first acceptance."""
    return stream_of(session, number, session.options.amounts.stream)


def stream_of(session: Session, number: int, count: int) -> Run:
    with (
        pipeline(session) as ours,
        Actor(session, _PRODUCER, "stream", ours.order(count, "stream")) as producer,
    ):
        with ours.held("listener"):
            producer.cue()
            report = producer.report()
            meters = ours.meters()
            meters.start()
            released = time.time()
        last = ours.wait_for_events(count, meters.look)
        finished = ours.check(count)
        costs = meters.stop(count, {"producer": report["cpu"]})
        began = ours.accepted_first()
    return Run("stream", number, count, count / (last - began), costs, count / (last - released), finished)


def backfill(session: Session, number: int) -> Run:
    """Request every conversation of every organization; measure from the first acceptance."""
    count = session.options.amounts.contacts
    with (
        pipeline(session) as ours,
        Actor(session, _PRODUCER, "backfill", ours.order(count, "all")) as producer,
    ):
        meters = ours.meters()
        meters.start()
        producer.cue()
        last = ours.wait_for_events(count, meters.look)
        report = producer.report()
        finished = ours.check(count)
        costs = meters.stop(count, {"producer": report["cpu"]})
        began = ours.accepted_first()
    return Run("backfill", number, count, count / (last - began), costs, count / (last - report["began"]), finished)


PATHS = {"interactive": interactive, "celery": celery, "stream": stream, "backfill": backfill}
