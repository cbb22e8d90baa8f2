"""Flower's own settings: who may look, what is kept, what is shown. `celery -A worker flower` reads it from here.

Flower reads FLOWER_* of the environment first (FLOWER_BASIC_AUTH, FLOWER_DB, FLOWER_PORT, FLOWER_URL_PREFIX ...), so
what is set below has the last word. https://flower.readthedocs.io/en/latest/config.html
"""

from flower.events import EventsState as _EventsState
from flower.views.tasks import TASK_COLUMNS as _LABELS
from tornado.options import options as _options

from worker.flower import labels as _dashboard

# A login is required, for its pages and its API. Only /metrics and /healthcheck answer without: they name tasks and
# workers, nothing of requests.
basic_auth = [each for each in _options.basic_auth or [] if each]
if _fault := _dashboard.login_fault(
    basic_auth,
    _options.auth,
    _options.auth_provider,
    {f"FLOWER_OAUTH2_{name}": _options[f"oauth2_{name.lower()}"] for name in ("KEY", "SECRET", "REDIRECT_URI")},
):
    raise SystemExit(f"flower: {_fault}")

# Flower watches. What is to be tried again is redriven (`snapshots requests redrive`), which the ledger counts; a
# task sent from here would be another's, and a worker shut down from here one fewer.
read_only = True

# What was seen outlives a restart; the file is FLOWER_DB. Saving 20,000 tasks stops its pages for a second.
persistent = True
state_save_interval = 30_000  # ms
max_tasks = 20_000
purge_offline_workers = 3600  # seconds; containers are given new names

tasks_columns = ",".join(_dashboard.COLUMNS)
_LABELS |= _dashboard.COLUMNS

_labels_of = _dashboard.Labels()


def format_task(task):  # type: ignore[no-untyped-def]  # Flower wants a function
    return _labels_of(task)


_take_in = _EventsState.event


def _take_in_clean(state, event):  # type: ignore[no-untyped-def]
    return _take_in(state, _dashboard.without_personal_data(event))


_EventsState.event = _take_in_clean
