"""Settings of Flower: who may see it, what it keeps, and what it shows. `snapshots celery flower` reads this file.

Flower reads FLOWER_* from the environment first (FLOWER_BASIC_AUTH, FLOWER_DB, FLOWER_PORT, FLOWER_URL_PREFIX ...).
What is set below overrides it. The secrets among them may also be files in the secrets directory of worker/settings/.
https://flower.readthedocs.io/en/latest/config.html
"""

from collections.abc import Mapping as _Mapping
from pathlib import Path as _Path
from typing import Any as _Any

from flower.events import EventsState as _EventsState
from flower.urls import handlers as _handlers
from flower.views import BaseHandler as _BaseHandler
from flower.views.tasks import TASK_COLUMNS as _HEADINGS
from tornado.options import options as _options
from tornado.web import RequestHandler as _RequestHandler

from worker.errors import InvalidSettings as _InvalidSettings
from worker.flower import handlers as _ours
from worker.flower.broker import read_queues_at as _read_queues_at
from worker.flower.events import begin_again as _begin_again
from worker.flower.events import without_personal_data as _without_personal_data
from worker.flower.labels import COLUMNS as _COLUMNS
from worker.flower.labels import Labels as _Labels
from worker.flower.login import SECURITY_HEADERS as _SECURITY_HEADERS
from worker.flower.login import login_error as _login_error
from worker.flower.login import port_error as _port_error
from worker.flower.search import extend_search as _extend_search
from worker.flower.stopping import end_from_the_loop as _end_from_the_loop
from worker.log import configure as _configure_log
from worker.settings import read_secret as _read_secret
from worker.settings import settings as _settings
from worker.startup.files import fault_of as _fault_of
from worker.startup.process import prepare_or_exit as _check_servers

try:
    _configure_log(_settings())
    for _name in ("basic_auth", "oauth2_secret", "cookie_secret"):
        if _value := _read_secret(f"FLOWER_{_name.upper()}"):
            setattr(_options, _name, _value.split(",") if _name == "basic_auth" else _value)
except _InvalidSettings as _invalid:
    raise SystemExit(f"flower: {_invalid.message}") from None

# Pages and API require a login. Only /metrics and /healthcheck answer without one; they name tasks and workers, and
# show nothing about requests.
basic_auth = [login for login in _options.basic_auth or [] if login]
if _error := _login_error(
    basic_auth,
    _options.auth,
    _options.auth_provider,
    {f"FLOWER_OAUTH2_{name}": _options[f"oauth2_{name.lower()}"] for name in ("KEY", "SECRET", "REDIRECT_URI")},
):
    raise SystemExit(f"flower: {_error}")
if not _options.unix_socket and (_error := _port_error(_options.address, _options.port)):
    raise SystemExit(f"flower: {_error}")
if _error := _fault_of(_Path(_options.db)):
    raise SystemExit(f"flower: FLOWER_DB (--db): {_error}")
_check_servers(_settings())
_read_queues_at(_settings().redis)
_end_from_the_loop()

# Failed requests are retried through the ledger (worker/flower/retry.py), which counts rounds. Everything else is off:
# a task sent from Flower would bypass the ledger, and a worker stopped from Flower would be missing.
read_only = True

# The history survives a restart in the file FLOWER_DB. Saving 20,000 tasks blocks the pages for a second.
persistent = True
state_save_interval = 30_000  # ms
max_tasks = 20_000
purge_offline_workers = 3600  # seconds; new containers get new names

tasks_columns = ",".join(_COLUMNS)
_HEADINGS |= _COLUMNS

_labels = _Labels()
_extend_search(_labels)
_ours.replace_handlers(_handlers, _labels)


def format_task(task: _Any) -> _Any:  # Flower requires a function
    return _labels.label(task)


_store_event = _EventsState.event


def _store_event_of_ours(state: _Any, event: _Mapping[str, _Any]) -> _Any:
    if event["type"] == "task-received" and (task := state.tasks.get(event.get("uuid"))):
        _begin_again(task)
    return _store_event(state, _without_personal_data(event))


_EventsState.event = _store_event_of_ours


# Flower sends no policy of its own. Its pages and static files inherit from these two classes.
def _add_security_headers(handler_class: _Any) -> None:
    set_default_headers = handler_class.set_default_headers

    def set_all_headers(handler: _Any) -> None:
        set_default_headers(handler)
        for name, value in _SECURITY_HEADERS.items():
            handler.set_header(name, value)

    handler_class.set_default_headers = set_all_headers


for _handler_class in (_RequestHandler, _BaseHandler):
    _add_security_headers(_handler_class)
