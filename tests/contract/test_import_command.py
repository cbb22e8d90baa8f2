"""`snapshots import` on a terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bson import ObjectId
from click.testing import CliRunner, Result

from support.neutral import conversation, write
from worker.cli.importing import import_command
from worker.errors import InvalidSettings
from worker.settings import Settings

ORGANIZATION = "6a0000000000000000000001"

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", settings.mongo_url)
    monkeypatch.setenv("SNAPSHOTS_MONGO_DATABASE", settings.mongo_database)
    return lambda *arguments, **how: CliRunner().invoke(import_command, [str(each) for each in arguments], **how)


def test_json_is_one_line_with_all_counts(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", [conversation("a"), conversation("b")])
    for stored, there in ((2, 0), (0, 2)):
        result = run(path, "--organization", ORGANIZATION, "--json")
        assert result.exit_code == 0
        assert result.stderr == ""
        assert result.stdout.count("\n") == 1
        assert json.loads(result.stdout) == {
            "organizationId": ORGANIZATION,
            "read": 2,
            "stored": stored,
            "alreadyThere": there,
            "refused": 0,
            "refusals": [],
            "contacts": stored,
            "conversations": stored,
            "messages": 3 * stored,
        }


def test_an_organization_is_generated_and_shown_if_omitted(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", [conversation("a")])
    first, second = (json.loads(run(path, "--json").stdout) for _ in range(2))
    assert ObjectId.is_valid(first["organizationId"])
    assert first["organizationId"] != second["organizationId"]
    assert (first["stored"], second["stored"]) == (1, 1)
    assert ORGANIZATION in run(path, "--organization", ORGANIZATION).stdout


def test_refusals_are_shown_and_end_with_1(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "[bold]all.jsonl", [conversation("a"), *["{}"] * 25])
    result = run(path, "--organization", ORGANIZATION)
    assert result.exit_code == 1
    reason = "conversation: is required; messages: is required"
    assert f"{path}:2: {reason}\n" in result.stdout
    assert result.stdout.count(": is required; messages") == 20
    assert "and 5 more" in result.stdout
    shown = json.loads(run(path, "--organization", ORGANIZATION, "--json").stdout)
    assert (shown["refused"], len(shown["refusals"])) == (25, 25)
    assert shown["refusals"][0] == {
        "file": str(path),
        "line": 2,
        "reason": "conversation: is required; messages: is required",
    }


def test_an_unreachable_database_ends_with_1_and_says_how_to_continue(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", "mongodb://someone:hunter2@127.0.0.1:1/?replicaSet=rs0")
    path = write(tmp_path / "all.jsonl", [conversation("a")])
    result = run(path, "--organization", ORGANIZATION, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "store_unavailable"
    assert f"--organization {ORGANIZATION}" in result.stderr
    assert "hunter2" not in result.output


def test_server_that_cannot_be_used_ends_with_2_and_promises_nothing(
    run: Run, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", settings.mongo_url.replace("replicaSet=rs0", "replicaSet=other"))
    result = run(write(tmp_path / "all.jsonl", [conversation("a")]))
    assert result.exit_code == 2
    assert "belongs to the replica set" in result.stderr
    assert "Resume with" not in result.stderr
    assert "Organization" not in result.stderr


def test_generated_organization_is_named_before_anything_is_stored(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", [conversation("a")])
    first = run(path, "--json")
    made = json.loads(first.stdout)["organizationId"]
    assert first.stderr.startswith(f"Organization {made}\n")
    assert json.loads(run(path, "--json", "--organization", made).stdout)["alreadyThere"] == 1


def test_invalid_setting_is_not_reported_as_an_interrupted_import(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", "mongo")
    with pytest.raises(InvalidSettings):  # which the group of all commands ends with 2
        run(write(tmp_path / "all.jsonl", [conversation("a")]), catch_exceptions=False)


@pytest.mark.parametrize("arguments", [[], ["missing.jsonl"], [__file__, "--organization", "x"]], ids=["a", "b", "c"])
def test_wrong_use_ends_with_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
