"""Celery's settings: queues, routes, acknowledgement, limits, schedule. All other settings: worker/settings/.

https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

from kombu import Queue

from worker.celery_support.message_format import MAX_ETA
from worker.errors import InvalidSettings
from worker.intake.entries import PRODUCER_TASKS as _PRODUCER_TASKS
from worker.jobs.job import TASKS as _JOB_TASKS
from worker.settings import settings as _settings
from worker.stores.wakeups import CREATE, INTERACTIVE, MAINTENANCE, QUEUES

try:
    _own = _settings()
except InvalidSettings as _error:
    raise SystemExit(f"Error: {_error.message}") from None  # Celery would print a traceback
_deadline = _own.run_deadline.total_seconds()

imports = (
    "tasks.signals",
    "tasks.requests",
    "tasks.closings",
    "tasks.exports",
    "tasks.backfills",
    "tasks.erasures",
    "tasks.retention",
    "tasks.sweep",
)

# Queues and routes. No priorities: each would be a list of its own, and the sweep reads one list per queue.
task_queues = tuple(Queue(name) for name in QUEUES)
task_default_queue = INTERACTIVE
task_create_missing_queues = False
task_routes = {
    **{name: {"queue": INTERACTIVE} for name in (CREATE, *_PRODUCER_TASKS)},
    **{name: {"queue": queue} for name, queue in _JOB_TASKS.values()},
    "snapshots.sweep": {"queue": MAINTENANCE},
    "conversations.reconcile": {"queue": MAINTENANCE},
}

# A message is acknowledged after its run. The sweep enqueues a killed worker's requests again and counts them;
# reject_on_worker_lost would loop on a request that kills its worker. Only the two tasks that accept what a Celery
# producer sends set it, because the sweep does not know these requests yet. `task_acks_on_failure_or_timeout` stays on:
# without it, Celery on Redis deletes the message all the same.
task_acks_late = True
task_reject_on_worker_lost = False
worker_prefetch_multiplier = 1

# A run ends by its own deadline; a wait for an unreachable store may double it, and the final writes take a few
# seconds. These limits end whatever hangs beyond that.
task_soft_time_limit = 2 * _deadline + 8
task_time_limit = 2 * _deadline + 12

# No result backend: outcomes are in the ledger. Flower sees every attempt.
task_ignore_result = True
result_backend = None
worker_consumer = "worker.celery_support.consumer:Consumer"  # records messages that it cannot dispatch
worker_send_task_events = True
task_send_sent_event = False
task_track_started = True

task_serializer = "json"
accept_content = ["json"]
timezone = "UTC"

# The broker may be unreachable at the start and at any later time, for any length of time.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_connection_timeout = 3
broker_channel_error_retry = True  # a Redis that refuses a command (out of memory, wrong type of key) ends no worker
_broker = _own.redis.celery_settings(
    {
        # Longer than a worker holds any message: its longest delay, and its task. The sweep repeats a killed worker's
        # wake-ups long before.
        "visibility_timeout": MAX_ETA.total_seconds() + task_time_limit + 60,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,  # how soon a read that gets no answer is given up: its primary may be frozen
    }
)
broker_url, broker_use_ssl = _broker["broker_url"], _broker["broker_use_ssl"]
broker_transport_options = _broker["broker_transport_options"]
task_publish_retry = True
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.2}

# On SIGTERM running tasks finish and the rest returns to the queue (containers set REMAP_SIGTERM=SIGQUIT).
worker_soft_shutdown_timeout = 2 * _deadline
# An idle worker may hold delayed messages. The countdowns of wake-ups are in the ledger, and retries of producers'
# messages go back to the queue, at the latest after the visibility timeout.
worker_enable_soft_shutdown_on_idle = False
worker_cancel_long_running_tasks_on_connection_loss = False
worker_max_memory_per_child = 400_000  # KiB: replaces a leaking child between two tasks
worker_hijack_root_logger = False
worker_redirect_stdouts = False

# No `expires`, which depends on the processes' clocks: worker/sweep/schedule_lock.py skips messages that waited too
# long.
beat_schedule = {
    "sweep": {"task": "snapshots.sweep", "schedule": _own.sweep_interval.total_seconds()},
    "reconcile": {"task": "conversations.reconcile", "schedule": _own.reconcile_interval.total_seconds()},
}
