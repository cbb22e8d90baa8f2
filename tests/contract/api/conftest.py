"""One API process, one worker and beat for the folder, and an organization for each module of tests."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from bson import ObjectId
from pydantic import SecretStr

from support.contacts import contact_with
from support.http import api, token
from support.operations import browser
from support.served import Served, own_settings
from support.stack import Running, stack
from worker.erasure.receipt import make_keys
from worker.local.embedded import Servers
from worker.local.processes import Child


@dataclass(frozen=True)
class System:
    """What runs while the tests of this folder do."""

    url: str
    process: Child
    running: Running
    exports: str


@pytest.fixture(scope="package")
def system(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("api")
    settings = own_settings(servers, apart=True).model_copy(update={"erasure_key": SecretStr("k" * 32)})
    env = {"EXPORTS_URL": str(folder / "exports"), "ERASURE_KEY": "k" * 32}
    env["ERASURE_SIGNING_KEY"] = str(folder / "erasure.pem")
    make_keys(folder / "erasure.pem")
    with stack(settings, folder, env) as running, api(settings, folder, env) as (url, process):
        yield System(url, process, running, env["EXPORTS_URL"])
        running.database.client.drop_database(settings.mongo_database)


@pytest.fixture(scope="package")
def second(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of another API process on the same servers."""
    with api(system.running.settings, tmp_path_factory.mktemp("second")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def served(system: System) -> Iterator[Served]:
    contact = contact_with(system.running.database, 3, 2, 0)
    made = Served(system.url, system.process, system.running, contact, system.exports)
    yield made
    for each in made.clients.values():
        each.close()


@pytest.fixture
def own(served: Served) -> ObjectId:
    """An organization of this test's own."""
    return ObjectId()


@pytest.fixture
def admin(served: Served, own: ObjectId) -> Iterator[httpx.Client]:
    """An ADMIN of it, who has logged in."""
    with browser(served.url, token(own)) as client:
        yield client
