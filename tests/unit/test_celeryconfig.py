"""Celery's settings and the tasks belong together."""

import celeryconfig
from worker.celery import app
from worker.intake.entries import PRODUCER_TASKS
from worker.jobs.job import TASKS
from worker.stores.wakeups import EXPORTS, INTERACTIVE, MAINTENANCE, QUEUES


def test_each_task_has_a_route_to_a_queue_that_exists() -> None:
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == set(celeryconfig.task_routes)
    assert {route["queue"] for route in celeryconfig.task_routes.values()} <= set(QUEUES)


def test_jobs_and_messages_of_producers_are_routed_as_they_are_published() -> None:
    routes = {name: route["queue"] for name, route in celeryconfig.task_routes.items()}
    assert {name: routes[name] for name in PRODUCER_TASKS} == dict.fromkeys(PRODUCER_TASKS, INTERACTIVE)
    assert {name: routes[name] for name, _ in TASKS.values()} == dict(TASKS.values())
    assert (routes["snapshots.backfill"], routes["snapshots.export"]) == (MAINTENANCE, EXPORTS)
