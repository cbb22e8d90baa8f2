"""Files and folders that users name: what is there stays, and what cannot be written is named in one line."""

from pathlib import Path

import pytest
from bson import ObjectId

from support.commands import run, run_at_once
from support.exporting import add_snapshots
from support.ledger import Bench, bench_on
from worker.erasure.receipt import make_keys
from worker.settings import Settings

Env = dict[str, str]


def test_output_that_cannot_be_made_is_named_in_one_line(env: Env, tmp_path: Path) -> None:
    of = ("--organization", ObjectId(), "--format", "jsonl")
    person = ("--organization", ObjectId(), "--contact", ObjectId(), "--yes")
    missing, file = tmp_path / "missing" / "file", tmp_path / "file"
    file.write_text("mine")
    public = make_keys(tmp_path / "erasure.pem")
    before = {path: path.read_bytes() for path in (file, public)}
    faults = {
        ("export", *of, "-o", "/"): (2, "mount point"),
        ("export", *of, "-o", "."): (2, "current folder"),
        ("export", *of, "-o", tmp_path): (2, "a new or an empty folder"),
        ("erase", *person, "-o", missing): (2, "a folder that exists"),
        ("erase", *person, "-o", file): (2, "a new file"),
        ("erase", "show", ObjectId(), "-o", file): (2, "a new file"),
        ("erase", "keys", missing): (1, f"{missing} cannot be used: No such file or directory."),
        ("erase", "keys", tmp_path / "erasure"): (2, f"{public} exists"),
    }
    for (order, (code, said)), ended in zip(faults.items(), run_at_once(env, list(faults)), strict=True):
        assert (ended.code, ended.stdout) == (code, ""), (order, ended)
        assert said in ended.stderr, (order, ended)
        assert ended.stderr.count("\n") == 1, (order, ended)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {"file", "erasure.pem", "erasure.pub.pem"}


@pytest.fixture
def bench(settings: Settings) -> Bench:
    with bench_on(settings) as made:
        add_snapshots(made, 2)
        return made


def test_export_follows_a_symbolic_link_and_a_path_that_goes_back(env: Env, bench: Bench, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    of = ("export", "--organization", bench.organization, "--format", "jsonl", "-o")
    for output, folder in ((link, target), (tmp_path / "no" / ".." / "back", tmp_path / "back")):
        ended = run(env, *of, output)
        assert ended.code == 0, ended
        assert (folder / "manifest.json").exists()
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"target", "link", "back"}
