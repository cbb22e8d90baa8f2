"""Invalid settings are named, with what they should be, and never with their value."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from worker.errors import InvalidSettings
from worker.settings import Settings, load, read_secret

INVALID = [
    ("REDIS_URL", "localhost:6379", "redis://"),
    ("REDIS_URL", "http://:s3cret@host/", "redis://"),
    ("REDIS_URL", "redis://:s3cret/word@host:6379/0", "percent-encode"),
    ("REDIS_URL", "redis://:s3cret@host:port/0", "a port from 1 to 65535"),
    ("MONGO_URL", "mongo", "mongodb://"),
    ("MONGO_URL", "mongodb://user:s3cret@host:99999/", "a host and optionally a port"),
    ("MONGO_URL", "mongodb://user:s3cret/word@host/", "percent-encoded"),
    ("MONGO_URL", "mongodb://user:p@s3cret/word:x@host/", "percent-encoded"),
    ("MONGO_URL", "mongodb://user:s3cret@host/?replicaSett=rs0", "has the unknown option replicasett"),
    ("MONGO_URL", "mongodb://host/?maxPoolSize=s3cret", "has the option maxpoolsize, which must be an integer"),
    ("MONGO_URL", "mongodb://host/?tls=s3cret", "has the option tls, which must be 'true' or 'false'"),
    ("MONGO_URL", "mongodb://host/?authMechanism=s3cret", "has the option authmechanism, which must be in ("),
    ("MONGO_DATABASE", "", "at least 1 character"),
    ("MONGO_DATABASE", "my.db", ": should have no spaces and none of the characters $ /"),
    ("MONGO_DATABASE", "a/b", "none of the characters"),
    ("MONGO_DATABASE", "d" * 64, "at most 63 characters"),
    ("REQUESTS_COLLECTION", "a$b", "dots only between"),
    ("REQUESTS_COLLECTION", "a..b", "dots only between"),
    ("MESSAGES_COLLECTION", ".a", "dots only between"),
    (
        "USERS_COLLECTION",
        "contacts",
        "SNAPSHOTS_CONTACTS_COLLECTION and SNAPSHOTS_USERS_COLLECTION have the same value",
    ),
    ("REJECTED_STREAM", "snapshots:events", "have the same value, snapshots:events: give each a different name"),
    ("EVENTS_STREAM", "my events", ": should have no spaces and no $"),
    ("RUN_DEADLINE", "soon", "a duration such as 45s"),
    ("RUN_DEADLINE", "-5s", "a duration such as 45s"),
    ("RUN_DEADLINE", "999999999999d", "a duration such as 45s"),
    ("RUN_DEADLINE", "0", "from 1s to 10m"),
    ("LISTENER_IDLE", "0", "from 0.1s to 1h"),
    ("SWEEP_INTERVAL", "0s", "from 0.1s to 1h"),
    ("RETRY_CEILING", "5m", "at most 30s"),
    ("RETRY_FLOOR", "0", "above 0"),
    ("LEDGER_RETENTION", "999999d", "from 1s to 36500d"),
    ("EVENTS_RETENTION", "0", "from 1s to 36500d"),
    ("LEDGER_RETENTION", "1d", "longer than SNAPSHOTS_EVENTS_RETENTION"),
    ("CHUNK_SIZE", "-1", "greater than or equal to 1"),
    ("CHUNK_SIZE", "501", "less than or equal to 500"),
    ("CHUNK_SIZE", "many", "a valid integer"),
    ("MAX_TAGS", "-1", "greater than or equal to 0"),
    ("SETTLE_SECONDS", "nan", "a finite number"),
    ("CREATE_SOURCE_INDEXES", "maybe", "INDEXES: should be true or false"),
    ("EXPORTS_URL", "gs://bucket/exports", ": should be a path, or s3://bucket/prefix"),
    ("EXPORTS_URL", "s3://", ": should be a path, or s3://bucket/prefix"),
    ("ERASURE_LOG", "https://host/log", ": should be a path, or s3://bucket/prefix"),
    ("ERASURE_KEY", "s3cret", ": should have at least 16 characters"),
    ("LOG_LEVEL", "LOUD", "'DEBUG'"),
    ("API_HOST", "", "should have at least 1 character"),
    ("MONGO_URL", "mongodb://me:?s3cret@h/?x=1", "percent-encoded"),
    ("MONGO_URL", "mongodb://h/?datetime_conversion=bogus", "has an option with a value that is not valid"),
    ("MONGO_URL", "mongodb://h/?server_api=1", "has an option with a value that is not valid"),
    ("MONGO_URL", "mongodb://h/?readPreference=s3cret", "has an option with a value that is not valid: readPreference"),
    ("MONGO_URL", "mongodb://h/?readConcernLevel=s3cret", "has the option readConcernLevel, which must be in ('avail"),
    ("MONGO_URL", "mongodb://h,i/?directConnection=true", "cannot specify multiple hosts with directConnection=true"),
    ("MONGO_URL", "mongodb://h/?tlsInsecure=true&tlsAllowInvalidHostnames=true", "tlsInsecure and tlsAllowInvalidHost"),
    ("MONGO_URL", "mongodb://h/?tls=true&ssl=false", "cannot specify conflicting values for URI options ssl and tls"),
    ("MONGO_URL", "mongodb://h/?w=1&appName=a;journal=true", "cannot mix '&' and ';' for option separators"),
    ("MONGO_URL", "mongodb://u:[s3cret@h/", "percent-encoded"),
    ("MONGO_URL", "mongodb://h/local", "should not be one of MongoDB's own databases (admin, config, local)"),
    ("OPERATIONS_URL", "https://[::1", "percent-encoded"),
    ("MONGO_DATABASE", "config", "should not be one of MongoDB's own databases (admin, config, local)"),
    ("MONGO_DATABASE", "ü" * 32, "should have at most 63 bytes"),
    ("REQUESTS_COLLECTION", "system.profile", "should not begin with system."),
    ("ERASURE_SIGNING_KEY", "-----BEGIN PRIVATE KEY-----\ns3cret", "should be the path of a file, not its content"),
    ("JWT_PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----s3cret", "should be the path of a file, not its content"),
    ("JWT_JWKS", '{"keys": ["s3cret"]}', "should be the path of a file, not its content"),
    ("JWT_SECRET", "'s3cret'", "should have no quotes around it"),
    ("REQUESTS_STREAM", '"snapshots:requests"', "should have no quotes around it"),
    ("JWT_ISSUER", "https://host\r\nSNAPSHOTS_JWT_AUDIENCE=x", "should have no control characters"),
    ("JWT_SECRET", "\ufeffs3cret", "no byte order mark"),
    ("REQUESTS_STREAM", "snapshots", "should not be the name of a queue or another key in Redis"),
    ("REJECTED_STREAM", "snapshots.exports", "SNAPSHOTS_REJECTED_STREAM should not be the name of a queue"),
    ("EVENTS_STREAM", "_kombu.binding.snapshots", "should not be the name of a queue"),
    ("EVENTS_STREAM", "snapshots:marker", "should not be the name of a queue"),
    ("MESSAGE_INTERNAL_VALUES", "note", "has no effect without SNAPSHOTS_MESSAGE_INTERNAL_FIELD"),
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


def test_bytes_of_another_encoding_are_named_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPSHOTS_REDIS_URL", os.fsdecode(b"redis://:s3cret\xff@h/0"))
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert caught.value.message == "SNAPSHOTS_REDIS_URL: should be text in UTF-8"


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


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCertificateKeyFile", "tlsCRLFile"])
def test_file_of_mongodbs_tls_that_is_no_certificate_is_named(option: str, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(InvalidSettings, match=f"SNAPSHOTS_MONGO_URL: has the option {option}, which should be a file"):
        load(mongo_url=f"mongodb://h/?tls=true&{option}={tmp_path / 'no.pem'}")


@pytest.mark.parametrize("url", ["redis://h", "rediss://:p%40ss@h:6380/3", "redis://[::1]:6379/0"])
def test_urls_of_redis_are_taken(url: str) -> None:
    assert load(redis_url=url).redis_url == url


def test_lost_after_is_the_deadline_and_five_seconds() -> None:
    assert Settings.model_construct().lost_after == timedelta(seconds=15)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A secrets directory with the settings of one file each."""
    monkeypatch.delenv("SNAPSHOTS_REDIS_URL", raising=False)
    monkeypatch.setenv("SNAPSHOTS_SECRETS_DIR", str(tmp_path))
    (tmp_path / "SNAPSHOTS_REDIS_URL").write_text("redis://:s3cret@redis:6379/0\n")
    return tmp_path


def test_setting_may_be_a_file_in_the_secrets_directory(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().redis_url == "redis://:s3cret@redis:6379/0"
    assert "redis_url" in load().model_fields_set
    monkeypatch.setenv("SNAPSHOTS_REDIS_URL", "redis://elsewhere/")
    assert load().redis_url == "redis://elsewhere/"


def test_secrets_directory_that_does_not_exist_is_named(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPSHOTS_SECRETS_DIR", str(secrets / "missing"))
    with pytest.raises(InvalidSettings, match=r"SNAPSHOTS_SECRETS_DIR names .*missing, which is not a directory"):
        load()
    monkeypatch.setenv("SNAPSHOTS_SECRETS_DIR", "")
    load()


def test_invalid_file_names_the_setting_without_its_value(secrets: Path) -> None:
    (secrets / "SNAPSHOTS_REDIS_URL").write_text("http://:s3cret@redis/")
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_REDIS_URL: should be") as caught:
        load()
    assert "s3cret" not in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_named(secrets: Path) -> None:
    (secrets / "SNAPSHOTS_REDIS_URL").chmod(0)
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_REDIS_URL: the file cannot be read"):
        load()


def test_folder_in_place_of_a_file_is_named(secrets: Path) -> None:
    """Docker makes one if the file that it should mount does not exist."""
    (secrets / "SNAPSHOTS_JWT_SECRET").mkdir()
    (secrets / "FLOWER_BASIC_AUTH").mkdir()
    with pytest.raises(InvalidSettings, match=r"SNAPSHOTS_JWT_SECRET: the file cannot be read \(Is a directory\)"):
        load()
    with pytest.raises(InvalidSettings, match="FLOWER_BASIC_AUTH: the file cannot be read"):
        read_secret("FLOWER_BASIC_AUTH")


def test_file_that_is_no_text_is_named_without_its_content(secrets: Path) -> None:
    (secrets / "SNAPSHOTS_REDIS_URL").write_bytes(b"\xff\xfes3cret")
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_REDIS_URL: the file should be text in UTF-8") as caught:
        load()
    assert "s3cret" not in caught.value.message


def test_other_secrets_are_read_from_the_directory(secrets: Path) -> None:
    (secrets / "FLOWER_BASIC_AUTH").write_text("operator:password\n")
    assert read_secret("FLOWER_BASIC_AUTH") == "operator:password"
    assert read_secret("FLOWER_COOKIE_SECRET") is None


def test_white_space_at_the_ends_of_a_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"JWT_SECRET": "s" * 40, "MONGO_DATABASE": "platform", "JWT_ISSUER": "https://host"}.items():
        monkeypatch.setenv(f"SNAPSHOTS_{name}", f" {value}\r\n")
    own = load()
    assert own.jwt_secret
    found = (own.jwt_secret.get_secret_value(), own.mongo_database, own.jwt_issuer)
    assert found == ("s" * 40, "platform", "https://host")


def test_secret_file_with_quotes_is_named_without_its_content(secrets: Path) -> None:
    (secrets / "snapshots_jwt_secret").write_text("'s3cret'\n")
    with pytest.raises(InvalidSettings, match="snapshots_jwt_secret: the content should have no quotes") as caught:
        load()
    assert "s3cret" not in caught.value.message


def test_port_that_kubernetes_sets_for_a_service_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPSHOTS_API_PORT", "tcp://10.1.2.3:8000")
    own = load()
    assert (own.api_port, "api_port" in own.model_fields_set) == (8000, False)
