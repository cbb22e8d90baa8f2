"""Flower in a local stack: its address, login and process.

FLOWER_* variables of the environment apply. If they name no login, one is generated and stored in the data folder, like
the secret of the API.
"""

import base64
import json
import os
import time
import urllib.request
from dataclasses import dataclass

from worker.local.data_folder import DataFolder
from worker.local.login import stored_secret
from worker.settings import PREFIX, Settings, read_secret

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of this machine without a proxy."""
_LOGINS = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH")
_NAME = "operator"
_TASK_SECONDS = 10.0
"""How long to wait until Flower shows failed tasks."""


@dataclass(frozen=True)
class Dashboard:
    """Flower's address and login. `login`: name:password; None if the environment sets a login."""

    url: str
    login: str | None
    environment: dict[str, str]
    """Additional environment variables of Flower's process."""


def dashboard(settings: Settings, folder: DataFolder, api_url: str) -> Dashboard:
    """Choose address and login. A free port is chosen unless FLOWER_PORT is set."""
    port = os.environ.get("FLOWER_PORT") or str(folder.ports("flower")["flower"])
    address = os.environ.get("FLOWER_ADDRESS") or "127.0.0.1"
    login = None if any(_is_set(name) for name in _LOGINS) else f"{_NAME}:{stored_secret(folder.path, 'flower')}"
    environment = {"FLOWER_PORT": port, "FLOWER_ADDRESS": address, "FLOWER_DB": str(folder.path / "flower")}
    environment[f"{PREFIX}OPERATIONS_URL"] = str(settings.operations_url or f"{api_url}/operations")
    if login:
        environment["FLOWER_BASIC_AUTH"] = login
    prefix = os.environ.get("FLOWER_URL_PREFIX", "").strip("/")
    return Dashboard(f"http://{address}:{port}{prefix and f'/{prefix}'}", login, environment)


def api_environment(settings: Settings, own: Dashboard) -> dict[str, str]:
    """Return the environment variable that tells the operations pages Flower's address."""
    return {f"{PREFIX}FLOWER_URL": str(settings.flower_url or own.url)}


def failed_tasks(own: Dashboard, count: int) -> dict[str, str]:
    """Return the reasons of failed tasks by their arguments, as Flower's API shows them, once there are `count`.

    After 10 s, return the tasks found so far. Raises OSError if Flower does not answer.
    """
    request = urllib.request.Request(f"{own.url}/api/tasks?state=FAILURE")  # noqa: S310 - http
    if own.login:
        request.add_header("Authorization", f"Basic {base64.b64encode(own.login.encode()).decode()}")
    stop_at = time.monotonic() + _TASK_SECONDS
    while True:
        with DIRECT.open(request, timeout=5) as answer:
            tasks = json.load(answer)
        if len(tasks) >= count or time.monotonic() > stop_at:
            return {each["args"]: each["exception"] for each in tasks.values()}
        time.sleep(0.1)


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name) or read_secret(name))
