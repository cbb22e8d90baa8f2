"""`snapshots up` on a platform's database takes the ids for the documentation's examples from it."""

import socket
from datetime import timedelta
from pathlib import Path

from bson import ObjectId

from support.ledger import START
from support.odd_platform import NAMES, Odd
from support.pipeline import service_on
from worker.local.data_folder import data_folder
from worker.local.example import Example, first_conversation
from worker.local.login import Login, login
from worker.local.shell_variables import write_shell_variables
from worker.settings import Settings, load


def test_oldest_conversation_with_a_contact_is_the_example_also_under_other_names(settings: Settings) -> None:
    own = {"redis_url": settings.redis_url, "mongo_url": settings.mongo_url, "mongo_database": settings.mongo_database}
    named = load(**own, **NAMES)
    assert first_conversation(named) is None
    with service_on(named) as service:
        odd = Odd(service)
        early = {"tenant": {"ref": str(odd.organization)}, "state": {"status": "open"}}
        older, oldest = (ObjectId.from_datetime(START - timedelta(days=days)) for days in (365, 730))
        contact = str(odd.contact)
        odd.database.chats.insert_many([{"_id": oldest, **early}, {"_id": older, **early, "customerRef": contact}])
    assert first_conversation(named) == Example(odd.organization, odd.contact, older)


def test_variables_and_the_login_are_those_of_the_example(settings: Settings, tmp_path: Path) -> None:
    example = Example(ObjectId(), ObjectId(), ObjectId())
    with data_folder(tmp_path / "data") as folder, login(settings, folder, example) as api:
        assert api.organization == example.organization
        written = write_shell_variables(tmp_path, settings, api).read_text()
    names = ("ORGANIZATION_ID", "CONTACT_ID", "CONVERSATION_ID")
    ids = (example.organization, example.contact, example.conversation)
    assert [f"export {name}={key}\n" in written for name, key in zip(names, ids, strict=True)] == [True] * 3


def test_without_an_example_the_variables_are_those_of_a_sample(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as listening:
        api = Login("http://127.0.0.1:1", ObjectId(), None, {}, listening)
        written = write_shell_variables(tmp_path, settings, api).read_text()
    assert f"export ORGANIZATION_ID={api.organization}\n" in written
    assert "export CONVERSATION_ID=" in written
