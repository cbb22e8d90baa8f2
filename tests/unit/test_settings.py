"""Settings: an invalid one is named, with what it should be, and never with its value."""

from datetime import timedelta

import pytest

from worker.errors import InvalidSettings
from worker.settings import Settings, load

INVALID = [
    ("REDIS_URL", "localhost:6379", "redis://"),
    ("REDIS_URL", "http://:s3cret@host/", "redis://"),
    ("REDIS_URL", "redis://:s3cret/word@host:6379/0", "percent-encoded"),
    ("REDIS_URL", "redis://:s3cret@host:port/0", "a host and perhaps a port"),
    ("MONGO_URL", "mongo", "mongodb://"),
    ("MONGO_URL", "mongodb://user:s3cret@host:99999/", "a host and perhaps a port"),
    ("MONGO_URL", "mongodb://user:s3cret/word@host/", "percent-encoded"),
    ("MONGO_DATABASE", "", "at least 1 character"),
    ("MONGO_DATABASE", "my.db", "pattern"),
    ("MONGO_DATABASE", "a/b", "pattern"),
    ("MONGO_DATABASE", "d" * 64, "at most 63 characters"),
    ("REQUESTS_COLLECTION", "a$b", "pattern"),
    ("REQUESTS_COLLECTION", "a..b", "pattern"),
    ("MESSAGES_COLLECTION", ".a", "pattern"),
    ("RUN_DEADLINE", "soon", "a duration such as 45s"),
    ("RUN_DEADLINE", "-5s", "a duration such as 45s"),
    ("RUN_DEADLINE", "999999999999d", "a duration such as 45s"),
    ("RUN_DEADLINE", "0", "from 1s to 10m"),
    ("SWEEP_INTERVAL", "0s", "from 0.1s to 1h"),
    ("RETRY_CEILING", "5m", "up to 30s"),
    ("RETRY_FLOOR", "0", "above 0"),
    ("LEDGER_RETENTION", "1d", "longer than SNAPSHOTS_EVENTS_RETENTION"),
    ("CHUNK_SIZE", "-1", "greater than or equal to 1"),
    ("CHUNK_SIZE", "501", "less than or equal to 500"),
    ("CHUNK_SIZE", "many", "a valid integer"),
    ("MAX_TAGS", "-1", "greater than or equal to 0"),
    ("SETTLE_SECONDS", "nan", "a finite number"),
    ("LOG_LEVEL", "LOUD", "'DEBUG'"),
]


@pytest.mark.parametrize(("name", "value", "said"), INVALID, ids=[f"{name}={value}" for name, value, _ in INVALID])
def test_invalid_value_names_the_variable_and_what_it_should_be(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SNAPSHOTS_{name}", value)
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert f"SNAPSHOTS_{name}" in caught.value.message
    assert said in caught.value.message
    assert "s3cret" not in caught.value.message


def test_all_invalid_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPSHOTS_CHUNK_SIZE", "0")
    monkeypatch.setenv("SNAPSHOTS_LOG_FORMAT", "xml")
    with pytest.raises(InvalidSettings, match=r"SNAPSHOTS_CHUNK_SIZE.*SNAPSHOTS_LOG_FORMAT"):
        load()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("45s", timedelta(seconds=45)),
        ("1.5m", timedelta(seconds=90)),
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        (" 7 ", timedelta(seconds=7)),
    ],
)
def test_durations_are_read(written: str, meant: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPSHOTS_PARENT_WAIT", written)
    assert load().parent_wait == meant


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://a:27017,b:27018/?replicaSet=rs0",
        "mongodb://user:p%40ss@[::1]:27017/?authSource=admin",
        "mongodb+srv://user:pass@cluster.example.com/",
    ],
)
def test_urls_of_mongodb_that_its_driver_reads_are_taken(url: str) -> None:
    assert load(mongo_url=url).mongo_url == url


@pytest.mark.parametrize("url", ["redis://h", "rediss://:p%40ss@h:6380/3", "redis://[::1]:6379/0"])
def test_urls_of_redis_are_taken(url: str) -> None:
    assert load(redis_url=url).redis_url == url


def test_lost_after_is_twice_the_deadline_and_five_seconds() -> None:
    assert Settings.model_construct().lost_after == timedelta(seconds=15)
