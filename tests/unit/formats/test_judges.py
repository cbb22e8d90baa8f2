"""The programs that read the formats read every row, and what they read is what the conversations say.

`make judges` installs them into `.venv-judges`. CONVERSATIONS names a folder of conversations instead of the samples.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from acceptance import SAMPLES, conversation_files
from support.exported import OPTIONS, Written, snapshots, write
from worker.formats import FORMATS, NotRepresentable, Options

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("JUDGES", ROOT / ".venv-judges")) / "bin" / "python"
SOURCES = conversation_files(Path(os.environ.get("CONVERSATIONS") or SAMPLES))

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Written]]:
    """A folder with every format, and what became of the snapshots in each."""
    folder = tmp_path_factory.mktemp("exported")
    written = write(folder, (document for document, _ in snapshots(SOURCES)))
    for name, each in written.items():
        print(f"{name}: {each.rows} rows, skipped: {dict(each.skipped)}")
    return folder, written


@pytest.mark.parametrize(
    ("program", "formats"),
    [
        ("datasets", sorted(FORMATS)),
        ("croissant", sorted(FORMATS)),
        ("trl", ["kto", "messages"]),
        ("mistral", ["mistral"]),
        ("llamafactory", ["sharegpt"]),
        ("inspect", ["eval"]),
        ("deepeval", ["eval"]),
        ("providers", ["messages", "nova"]),
    ],
)
def test_program_reads_every_row(program: str, formats: list[str], exported: tuple[Path, dict[str, Written]]) -> None:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON.parents[1].name} does not exist; `make judges` creates it")
    folder, written = exported
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "judges" / "judge.py", program, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout.splitlines()[-1])
    print(f"{program}: {read}")
    assert {name: rows for name, rows in read.items() if rows} == {
        name: written[name].rows for name in formats if written[name].rows
    }


def test_rows_say_what_the_conversations_say() -> None:
    """Compares with the files, by rules that are written here again."""
    for document, source in snapshots(SOURCES):
        visible = [(each["sender"] == "user", each["content"]) for each in source if each["content"].strip()]
        while visible and not visible[-1][0]:
            visible.pop()
        everything = "\n".join(content for _, content in visible)
        first = next((place for place, (ours, _) in enumerate(visible) if not ours), None)
        answered = first is not None
        since = "\n".join(content for _, content in visible[first:]) if answered else ""
        refers = any(ours and content.startswith(("file://", "package:")) for ours, content in visible)
        may_skip = {"vertex", "nova", "eval"} if refers else {"vertex", "nova"}
        rows = {name: row_of(name, document) for name in FORMATS}
        for name in ("messages", "eval", "mistral", "sharegpt", "vertex", "nova"):
            whole = everything if name in {"messages", "eval"} else since
            if rows[name] is None:
                assert not answered or name in may_skip
            else:
                assert said(name, rows[name]) == whole
        assert (rows["kto"] is None) == (not answered or document["quality"] not in {"good", "bad"})
        assert [each["content"] for each in rows["parquet"]["messages"]] == [each["content"] for each in source]
        assert [each["content"] for each in rows["jsonl"]["messages"]] == [each["content"] for each in source]


def row_of(name: str, document: dict[str, Any]) -> Any:
    """The row of a snapshot, or None if the format skips it."""
    form = FORMATS[name]
    try:
        (row,) = form.rows(document, OPTIONS if "system" in form.takes else Options())
    except NotRepresentable:
        return None
    return row


def said(name: str, row: dict[str, Any]) -> str:
    """All that a row says but the system prompt."""
    match name:
        case "messages" | "mistral":
            texts = [each["content"] for each in row["messages"] if each["role"] != "system"]
        case "eval":
            texts = [*(each["content"] for each in row["input"]), row["target"]]
        case "sharegpt":
            texts = [each["value"] for each in row["conversations"]]
        case "vertex":
            texts = [each["parts"][0]["text"] for each in row["contents"]]
        case _:
            texts = [each["content"][0]["text"] for each in row["messages"]]
    return "\n".join(texts)
