"""The database that the URL names, and variables that are no settings."""

from pathlib import Path

import pytest

from worker.errors import InvalidSettings
from worker.settings import load, unknown_variables

URL = "mongodb://user:secret@a:27017,b/{}replicaSet=rs0"


@pytest.mark.parametrize(
    ("path", "variable", "database"),
    [
        ("?", None, "messaging"),
        ("platform?", None, "platform"),
        ("plat%2Dform?", None, "plat-form"),
        ("admin?", None, "messaging"),
        ("admin?", "platform", "platform"),
        ("platform?", "platform", "platform"),
        ("?", "platform", "platform"),
    ],
)
def test_database_is_the_one_of_the_url_or_of_its_variable(path: str, variable: str | None, database: str) -> None:
    values = {"mongo_url": URL.format(path), **({"mongo_database": variable} if variable else {})}
    assert load(**values).mongo_database == database


def test_two_databases_are_refused_without_a_value() -> None:
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_MONGO_DATABASE specify different databases") as error:
        load(mongo_url=URL.format("platform?"), mongo_database="other")
    assert "platform" not in error.value.message
    assert "secret" not in error.value.message


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:6379/0", "http://127.0.0.1/platform", '"mongodb://127.0.0.1/platform"']
)
def test_url_of_another_kind_names_no_second_database(url: str) -> None:
    with pytest.raises(InvalidSettings, match="begins with mongodb://"):
        load(mongo_url=url, mongo_database="messaging")


def test_database_of_a_name_in_dns_is_used_without_looking_it_up() -> None:
    assert load(mongo_url="mongodb+srv://user:secret@nowhere.example.com/platform").mongo_database == "platform"


def test_unreadable_certificate_file_is_named_by_its_variable() -> None:
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_MONGO_URL: names a file in its options that cannot be read"):
        load(mongo_url="mongodb://h/?tls=true&tlsCAFile=/nowhere.pem")


def test_unknown_variables_are_named_with_the_nearest_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "SNAPSHOTS_MONGO_URI",
        "SNAPSHOTS_WORKER_LOST",
        "SNAPSHOTS_QQQQ",
        # Known: read elsewhere, or defined by Kubernetes for a Service of the name snapshots-api.
        "SNAPSHOTS_VERSION",
        "SNAPSHOTS_API_SERVICE_HOST",
        "SNAPSHOTS_API_SERVICE_PORT_HTTP",
        "SNAPSHOTS_API_PORT_8000_TCP_ADDR",
    ):
        monkeypatch.setenv(name, "x")
    (tmp_path / "snapshots_jwt_secrets").touch()
    (tmp_path / "of_another_program").touch()
    monkeypatch.setenv("SNAPSHOTS_SECRETS_DIR", str(tmp_path))
    assert unknown_variables() == [
        ("SNAPSHOTS_JWT_SECRETS", "SNAPSHOTS_JWT_SECRET"),
        ("SNAPSHOTS_MONGO_URI", "SNAPSHOTS_MONGO_URL"),
        ("SNAPSHOTS_QQQQ", None),
        ("SNAPSHOTS_WORKER_LOST", "SNAPSHOTS_WORKER_LOST_AFTER"),
    ]
