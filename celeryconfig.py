"""Celery's own settings: queues, routes, acknowledgement, limits, schedule. What else there is: worker/settings.py.

https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

from kombu import Queue

from worker.settings import settings as _settings
from worker.stores.wakeups import BULK, CREATE, INTERACTIVE, MAINTENANCE

_own = _settings()
_deadline = _own.run_deadline.total_seconds()

broker_url = _own.redis_url
imports = ("tasks.signals", "tasks.requests", "tasks.closings", "tasks.upkeep")

# Queues and routes. No priorities: they would be several lists a queue, and the sweep looks at one.
task_queues = tuple(Queue(name) for name in (INTERACTIVE, BULK, MAINTENANCE))
task_default_queue = INTERACTIVE
task_create_missing_queues = False
task_routes = {
    CREATE: {"queue": INTERACTIVE},
    "snapshots.request": {"queue": INTERACTIVE},
    "conversations.resolved": {"queue": INTERACTIVE},
    "snapshots.sweep": {"queue": MAINTENANCE},
    "conversations.reconcile": {"queue": MAINTENANCE},
}

# A message is acknowledged after its run. What a killed worker had is repaired by the sweep, which counts;
# reject_on_worker_lost would loop on a request that kills its worker. `task_acks_on_failure_or_timeout` stays on:
# without it Celery on Redis deletes the message just the same.
task_acks_late = True
task_reject_on_worker_lost = False
worker_prefetch_multiplier = 1

# The run's own deadline comes first, then a wait for a store that is down, up to twice the deadline together, and a
# few seconds for what they leave to write; these catch what hangs otherwise.
task_soft_time_limit = 2 * _deadline + 8
task_time_limit = 2 * _deadline + 12

# No results: outcomes are in the ledger. Flower sees every attempt.
task_ignore_result = True
result_backend = None
worker_send_task_events = True
task_send_sent_event = False
task_track_started = True

task_serializer = "json"
accept_content = ["json"]
timezone = "UTC"

# The broker may be away at the start and at any time, for as long as it likes.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_connection_timeout = 3
broker_transport_options = {
    "visibility_timeout": 3600,  # the sweep redelivers; this is the belt to its braces
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
task_publish_retry = True
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.2}

# SIGTERM: running tasks finish, the rest goes back to the queue (containers set REMAP_SIGTERM=SIGQUIT).
worker_soft_shutdown_timeout = 2 * _deadline
worker_enable_soft_shutdown_on_idle = False  # for countdowns that it holds, which the ledger knows
worker_cancel_long_running_tasks_on_connection_loss = False
worker_max_memory_per_child = 400_000  # KiB: a leak ends a child between two tasks, not the machine
worker_hijack_root_logger = False
worker_redirect_stdouts = False

# No `expires`, which is by the processes' clocks: what waited too long is told by worker/sweep/schedule_lock.py.
beat_schedule = {
    "sweep": {"task": "snapshots.sweep", "schedule": _own.sweep_interval.total_seconds()},
    "reconcile": {"task": "conversations.reconcile", "schedule": _own.reconcile_interval.total_seconds()},
}
