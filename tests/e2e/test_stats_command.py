"""`snapshots stats`."""

import re
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from support.commands import run
from support.contacts import contact_with
from support.pipeline import accept, run_accepted
from support.terminal import on_a_terminal
from worker.service import Service

Env = dict[str, str]


def test_figures_are_json_or_tables_that_80_columns_hold(
    env: Env, own: Database[dict[str, Any]], service: Service
) -> None:
    contact = contact_with(own, 3, 2, 5)
    for number, conversation in enumerate(contact.conversations):
        labels = {"quality": "good", "tags": ["x" * 100]} if number else {}
        accept(service, contact.organization, contact.id, f"r{number}", conversationId=conversation, **labels)
    run_accepted(service)
    order = ("stats", "--organization", contact.organization)
    ended = run(env, *order, "--json")
    assert ended.code == 0
    assert ended.json["snapshots"] == ended.json["sample"]["snapshots"] == 3
    assert ended.json["messages"]["longest"] == 5
    assert run(env, *order, "--quality", "good", "--from", "2020-01-01", "--json").json["snapshots"] == 2
    with on_a_terminal(env | {"NO_COLOR": "1"}, *order) as terminal:
        assert terminal.wait() == 0
        lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.printed).splitlines()
    assert max(map(len, lines)) <= 80
    shown = "\n".join(lines)
    for text in ("3 snapshots of organization", "median 3", "channel", "language", "jsonl", "From all 3 snapshots"):
        assert text in shown


def test_invalid_filter_names_its_option(env: Env) -> None:
    ended = run(env, "stats", "--organization", ObjectId(), "--from", "yesterday")
    assert ended.code == 2
    assert "--from should be a time such as" in ended.stderr
    assert run(env, "stats", "--organization", ObjectId(), "--archived", "maybe").code == 2


def test_empty_organization_has_no_figures(env: Env) -> None:
    ended = run(env, "stats", "--organization", ObjectId())
    assert (ended.code, ended.stdout.count("\n")) == (0, 1)
