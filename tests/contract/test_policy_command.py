"""`snapshots policy`, as a terminal sees it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pymongo
import pytest
from bson import ObjectId
from click.testing import CliRunner, Result

from worker.cli.policies import policy
from worker.settings import Settings

ORGANIZATION = "6a0000000000000000000001"
OF = ("--organization", ORGANIZATION)

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", settings.mongo_url)
    monkeypatch.setenv("SNAPSHOTS_MONGO_DATABASE", settings.mongo_database)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(policy, [str(each) for each in arguments])


def test_policy_is_set_field_by_field_and_shown(run: Run) -> None:
    assert json.loads(run("get", *OF, "--json").stdout)["own"] is False
    first = run("set", *OF, "--channel-type", "sms", "--tag", "auto", "--tag", "b", "--sampling-share", "0.25")
    assert first.exit_code == 0, first.output
    second = run("set", *OF, "--disabled", "--settle-seconds", "0", "--minimum-from-user", "1", "--json")
    assert second.exit_code == 0
    shown = json.loads(run("get", *OF, "--json").stdout)
    assert shown == json.loads(second.stdout)
    assert shown == {
        "organizationId": ORGANIZATION,
        "own": True,
        "leftOut": {},
        "policy": {
            "enabled": False,
            "channelTypes": ["sms"],
            "minimumMessages": 2,
            "minimumFromContact": 0,
            "minimumFromUser": 1,
            "samplingShare": 0.25,
            "tags": ["auto", "b"],
            "category": None,
            "quality": None,
            "settleSeconds": 0.0,
            "redact": [],
            "redactRegions": [],
            "redactVersion": 0,
            "keepFor": [],
        },
    }
    cleared = run("set", *OF, "--clear", "channel-type", "--clear", "settle-seconds", "--enabled", "--json")
    changed = json.loads(cleared.stdout)["policy"]
    assert (changed["channelTypes"], changed["settleSeconds"], changed["enabled"]) == (None, None, True)
    assert "30 (SNAPSHOTS_SETTLE_SECONDS)" in run("get", *OF).stdout


def test_setting_a_policy_creates_no_index_on_the_collections_of_the_platform(
    run: Run, settings: Settings, mongo_client: pymongo.MongoClient[dict[str, object]]
) -> None:
    """It may be set before the first start, in a shell that does not have the settings that map fields."""
    database = mongo_client[settings.mongo_database]
    database.messages.insert_one({"text": "Hello"})
    assert run("set", *OF, "--disabled").exit_code == 0
    assert [*database.messages.index_information()] == ["_id_"]
    assert set(database.list_collection_names()) == {"messages", "snapshotpolicies"}
    own = database.snapshotpolicies.index_information()
    assert own["snapshots_organizationId"]["unique"]


def test_list_and_get_show_skipped_closings(
    run: Run, settings: Settings, mongo_client: pymongo.MongoClient[dict[str, object]]
) -> None:
    assert "at least 2 messages" in run("list").stdout
    run("set", *OF, "--minimum-messages", "5")
    database = mongo_client[settings.mongo_database]
    database.snapshotleftout.insert_many(
        {"_id": f"resolved:{number}", "organizationId": ObjectId(ORGANIZATION), "reason": "too_few_messages"}
        for number in range(3)
    )
    database.snapshotpolicies.insert_one({"organizationId": ObjectId(), "samplingShare": 7})
    good, bad = json.loads(run("list", "--json").stdout)["policies"]
    assert good["leftOut"] == {"too_few_messages": 3}
    assert "samplingShare" in bad["error"]["message"]
    table = run("list").stdout
    assert "minimumMessages: 5" in table
    assert "too_few_messages 3" in table
    assert "not valid" in table
    assert "too_few_messages 3" in run("get", *OF).stdout


def test_times_are_set_shown_and_cleared_with_the_number_of_snapshots_that_are_too_old(
    run: Run, settings: Settings, mongo_client: pymongo.MongoClient[dict[str, object]]
) -> None:
    snapshots = mongo_client[settings.mongo_database].trainingsnapshots
    created = datetime(2020, 1, 1, tzinfo=UTC)
    snapshots.insert_many(
        {"organizationId": ObjectId(ORGANIZATION), "createdAt": created, "quality": quality} for quality in "aab"
    )
    shown = json.loads(run("set", *OF, "--keep-for", "400d", "--keep-for", "b=36500d", "--json").stdout)
    assert (shown["policy"]["keepFor"], shown["expired"]) == (["400d", "b=36500d"], 2)
    table = run("get", *OF).stdout
    assert "400d, b=36500d" in table
    assert "expired, not removed yet" in table
    assert "keepFor: 400d, b=36500d" in run("list").stdout
    cleared = json.loads(run("set", *OF, "--clear", "keep-for", "--json").stdout)
    assert (cleared["policy"]["keepFor"], "expired" in cleared) == ([], False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set", *OF, "--sampling-share", "2"], "'--sampling-share': 2.0 is not in the range 0<=x<=1"),
        (["set", *OF, "--sampling-share", "nan"], "--sampling-share should be"),
        (["set", *OF, "--minimum-messages", "-1"], "'--minimum-messages': -1 is not in the range"),
        (["set", *OF, "--tag", " "], "--tag tag 0 should not be blank"),
        (["set", *OF, "--channel-type", ""], "--channel-type should name at least one channel type"),
        (["set", *OF, "--category", "x" * 101], "--category should have at most 100 characters, but has 101"),
        (["set", *OF, "--keep-for", "400"], "--keep-for should be a period in days or hours, from 1h to 36500d"),
        (["set", *OF, "--keep-for", "0d"], "good=400d for one quality; got '0d'"),
        (["set", *OF, "--keep-for", "-5d"], "got '-5d'"),
        (["set", *OF, "--keep-for", "36501d"], "from 1h to 36500d"),
        (["set", *OF, "--keep-for", "999999999999d"], "from 1h to 36500d"),
        (["set", *OF, "--keep-for", "good=5w"], "got '5w'"),
        (["set", *OF, "--keep-for", "=5d"], "--keep-for should name a quality before the equals sign"),
        (["set", *OF, "--keep-for", "a=5d", "--keep-for", "a=6d"], "should have one period for 'a'"),
        (["set", *OF, "--keep-for", "5d", "--keep-for", "6d"], "should have one period for all qualities"),
        (["set", *OF], "Give at least one of --enabled"),
        (["set", *OF, "--tag", "a", "--clear", "tag"], "--tag cannot be set and cleared"),
        (["set", *OF, "--clear", "tags"], "'--clear': 'tags' is not one of"),
        (["get"], "Missing option '--organization'"),
        (["get", "--organization", "12"], "is not an id of 24 hex digits"),
    ],
)
def test_wrong_value_names_the_option_and_what_is_allowed(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", "").split()), result.stderr


def test_help_has_an_example(run: Run) -> None:
    for arguments in ([], ["get"], ["set"], ["list"]):
        assert "Example:" in run(*arguments, "--help").stdout


def test_documents_of_another_program_are_not_listed(run: Run, settings: Settings) -> None:
    with pymongo.MongoClient[dict[str, object]](settings.mongo_url) as client:
        client[settings.mongo_database].snapshotpolicies.insert_one({"name": "a policy of something else"})
    assert json.loads(run("list", "--json").stdout) == {"policies": []}
