"""One API process, one worker and beat for each module of tests."""

from collections.abc import Iterator

import httpx
import pytest
from bson import ObjectId

from support.contacts import contact_with
from support.http import api, token
from support.operations import browser
from support.served import Served, own_settings
from support.stack import stack
from worker.erasure.receipt import make_keys
from worker.local.embedded import Servers


@pytest.fixture(scope="module")
def served(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("api")
    settings = own_settings(servers)
    env = {"EXPORTS_URL": str(folder / "exports"), "ERASURE_KEY": "k" * 32}
    env["ERASURE_SIGNING_KEY"] = str(folder / "erasure.pem")
    make_keys(folder / "erasure.pem")
    with stack(settings, folder, env) as running, api(settings, folder, env) as (url, process):
        contact = contact_with(running.database, 3, 2, 0)
        made = Served(url, process, running, contact, env["EXPORTS_URL"])
        yield made
        for each in made.clients.values():
            each.close()
        running.database.client.drop_database(settings.mongo_database)


@pytest.fixture
def own(served: Served) -> ObjectId:
    """An organization of this test's own."""
    return ObjectId()


@pytest.fixture
def admin(served: Served, own: ObjectId) -> Iterator[httpx.Client]:
    """An ADMIN of it, who has logged in."""
    with browser(served.url, token(own)) as client:
        yield client
