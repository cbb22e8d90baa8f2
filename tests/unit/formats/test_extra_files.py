"""The files next to the data: the dataset card of every format, and LLaMA-Factory's dataset_info.json."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
import yaml

from support.snapshots import naive, snapshot
from worker.exports.croissant import croissant
from worker.formats import FORMATS, Dataset, File, Options, get_format


def dataset(name: str, counts: dict[str, int], options: Options | None = None) -> Dataset:
    """An export with so many files of 3 rows and 10 bytes in each split."""
    files = {
        split: [File(get_format(name).path(split, index, count), 3, 10, "") for index in range(count)]
        for split, count in counts.items()
    }
    return Dataset("support: 2026", "Talks.", datetime(2026, 5, 18, tzinfo=UTC), files, options or Options())


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_card_names_the_files_columns_and_rows_of_each_split(name: str) -> None:
    files = get_format(name).extra_files(dataset(name, {"test": 1, "train": 2, "validation": 0}))
    _, head, text = files["README.md"].decode().split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["pretty_name"] == "support: 2026"
    (config,) = card["configs"]
    path = get_format(name).path
    assert config["data_files"] == [
        {"split": "train", "path": [path("train", 0, 2), path("train", 1, 2)]},
        {"split": "test", "path": [path("test", 0, 1)]},
    ]
    info = card["dataset_info"]
    assert [(each["name"], each["num_examples"]) for each in info["splits"]] == [("train", 6), ("test", 3)]
    assert [each["name"] for each in info["features"]] == list(get_format(name).columns(Options()))
    assert "| train | 6 |" in text


def test_sharegpt_names_a_file_or_the_folder_of_several_files() -> None:
    made = get_format("sharegpt").extra_files(dataset("sharegpt", {"train": 2, "validation": 1, "test": 0}))
    info = json.loads(made["dataset_info.json"])
    assert {name: each["file_name"] for name, each in info.items()} == {
        "support: 2026": "train",
        "support: 2026_validation": "validation.jsonl",
    }
    assert info["support: 2026"]["columns"] == {"messages": "conversations", "system": "system"}


def test_files_without_rows_are_not_in_the_card() -> None:
    files = {
        "train": [File("train-0.jsonl", 0, 0, ""), File("train-1.jsonl", 3, 10, "")],
        "test": [File("t", 0, 0, "")],
    }
    made = get_format("kto").extra_files(Dataset("d", "", datetime(2026, 5, 18, tzinfo=UTC), files))
    card = yaml.safe_load(made["README.md"].decode().split("---\n", 2)[1])
    assert card["configs"][0]["data_files"] == [{"split": "train", "path": ["train-1.jsonl"]}]


def test_sharegpt_names_compressed_files_as_they_will_be() -> None:
    files = {"train": [File("train.jsonl.gz", 3, 10, "")]}
    made = get_format("sharegpt").extra_files(Dataset("d", "", datetime(2026, 5, 18, tzinfo=UTC), files))
    assert json.loads(made["dataset_info.json"])["d"]["file_name"] == "train.jsonl"
    assert "**LLaMA-Factory cannot read compressed files: decompress them first.**" in made["README.md"].decode()


@pytest.mark.parametrize(("ending", "warned"), [("", False), (".gz", True), (".zst", True)])
def test_card_of_eval_names_the_readers_of_uncompressed_files(ending: str, warned: bool) -> None:
    files = {"test": [File(f"test.jsonl{ending}", 3, 10, "")]}
    made = get_format("eval").extra_files(Dataset("d", "", datetime(2026, 5, 18, tzinfo=UTC), files))
    warning = b"**Inspect, DeepEval and promptfoo cannot read compressed files: decompress them first.**"
    assert (warning in made["README.md"]) is warned


def test_card_says_what_readers_will_not_accept() -> None:
    files = {"validation": [File("validation.jsonl", 5_001, 9, "")]}
    made = get_format("vertex").extra_files(Dataset("d", "", datetime(2026, 5, 18, tzinfo=UTC), files))
    assert "**The split validation has 5001 rows; Gemini's tuning accepts 5000.**" in made["README.md"].decode()


@pytest.mark.parametrize(
    ("name", "count", "path"),
    [
        ("jsonl", 1, "train.jsonl"),
        ("messages", 3, "train-00000-of-00003.jsonl"),
        ("sharegpt", 3, "train/train-00000-of-00003.jsonl"),
        ("parquet", 1, "data/train-00000-of-00001.parquet"),
    ],
)
def test_paths(name: str, count: int, path: str) -> None:
    assert get_format(name).path("train", 0, count) == path


def test_parquet_holds_a_row_in_its_schema() -> None:
    parquet = get_format("parquet")
    rows = parquet.rows(snapshot(("contact", "a"), ("user", "b")), Options())
    table = pa.Table.from_pylist(rows, schema=parquet.table().schema)
    assert naive(table.to_pylist()) == rows
    assert str(table.schema.field("createdAt").type) == "timestamp[ms, tz=UTC]"
    assert str(table.schema.field("tags").type) == "list<item: string>"


@pytest.mark.parametrize("module", ["pyarrow", "fsspec"])
def test_formats_import_nothing_heavy(module: str) -> None:
    code = f"import sys, worker.formats; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_columns_follow_the_options() -> None:
    columns: dict[str, Any] = get_format("messages").columns(Options(weight_bad=True))
    assert columns == {"messages": [{"role": "string", "content": "string", "weight": "int64"}]}
    assert "system" in get_format("nova").columns(Options(system="S"))
    assert "system" not in get_format("nova").columns(Options())


@pytest.mark.parametrize(
    ("name", "ending"),
    [*product(sorted(FORMATS), [""]), *product(sorted({*FORMATS} - {"parquet"}), [".gz", ".zst"])],
)
def test_croissant_describes_the_records_of_files_that_its_reader_opens(name: str, ending: str) -> None:
    """The judge `croissant` reads them with `mlcroissant`."""
    form = get_format(name)
    plain = dataset(name, {"train": 2, "test": 1})
    files = {split: [replace(each, path=each.path + ending) for each in of] for split, of in plain.files.items()}
    described = json.loads(croissant(replace(plain, files=files), form))
    assert [each["name"] for each in described["distribution"]] == [each.path for of in files.values() for each in of]
    columns = [field["name"].partition("/")[2] for each in described["recordSet"] for field in each["field"]]
    assert columns == ([] if ending == ".zst" else [*form.certain_columns(Options())] * 3)
