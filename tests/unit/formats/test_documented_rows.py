"""docs/formats.md names every format, and its rows are those that the code makes."""

import json
import re
from pathlib import Path

from support.snapshots import snapshot
from worker.formats import FORMATS, Options

TEXT = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
TALK = (
    ("user", "Welcome!"),
    ("contact", "Hi"),
    ("contact", "Where is my parcel?"),
    ("user", "It arrives today."),
    ("contact", "Thanks"),
)


def test_documented_rows_are_made_by_the_code() -> None:
    documented = {
        name: json.loads(row) for name, row in re.findall(r"^`(\w+)`\n\n```json\n(.*)\n```$", TEXT, re.MULTILINE)
    }
    assert set(documented) == set(FORMATS) - {"jsonl", "parquet"}
    for name, row in documented.items():
        options = Options(system="Be kind.") if "system" in FORMATS[name].takes else Options()
        assert FORMATS[name].rows(snapshot(*TALK, quality="good"), options) == [row]


def test_table_names_each_format_and_its_options() -> None:
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|]*)\|$", TEXT, re.MULTILINE)
    spelled = {"system": "`system`", "weight_bad": "`weightBad`"}
    assert dict(table) == {
        name: "".join(f"{spelled[option]}, " for option in sorted(each.takes)).removesuffix(", ")
        + " " * bool(each.takes)
        for name, each in FORMATS.items()
    }


def test_every_reason_is_documented() -> None:
    code = "\n".join(path.read_text() for path in (Path(__file__).parents[3] / "worker" / "formats").glob("*.py"))
    reasons = set(re.findall(r'NotRepresentable\(\s*"(\w+)"', code))
    assert len(reasons) > 8
    assert not {each for each in reasons if f"`{each}`" not in TEXT}
