"""The documentation names only files, tests, links, make targets and packages that exist."""

import re
import tomllib
from pathlib import Path

import pytest

from worker.errors import PermanentError

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_PATH = re.compile(
    r"`((?:worker|tasks|tests|benchmarks|docs|deploy|scripts)/[\w./-]*?(?:/|\.\w+))(?:::(\w+))?(?:\[[^`]*)?`"
)
_LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
_TARGET = re.compile(r"(?:`|^    |&& )make ([a-z]+)", re.MULTILINE)


documents = pytest.mark.parametrize(
    "document", [pytest.param(each, id=str(each.relative_to(ROOT))) for each in DOCUMENTS]
)


@documents
def test_files_and_tests_that_are_named_exist(document: Path) -> None:
    missing = []
    for path, test in _PATH.findall(document.read_text()):
        file = ROOT / path
        if not file.exists() or (test and f"def {test}(" not in file.read_text()):
            missing.append(f"{path}::{test}" if test else path)
    assert not missing


@documents
def test_test_names_exist(document: Path) -> None:
    names = set(re.findall(r"[`:](test_\w+)`", document.read_text()))
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py")) if names else ""
    assert not {name for name in names if f"def {name}(" not in code}


@documents
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for path, anchor in _LINK.findall(document.read_text()):
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert not broken


@documents
def test_make_targets_that_are_named_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(_TARGET.findall(document.read_text())) <= targets


@pytest.mark.parametrize("path", ["docs/http.md", "worker/client/models.py"])
def test_every_failure_code_is_documented(path: str) -> None:
    text = (ROOT / path).read_text()
    codes = {error.code for error in PermanentError.__subclasses__() if error.__module__ == "worker.errors"}
    assert codes
    assert not {code for code in codes if code not in text}


def test_picture_of_the_packages_is_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == ["worker"])
    text = (ROOT / "docs" / "architecture.md").read_text()
    picture = text.partition("<!-- packages:")[2].partition("```mermaid")[2].partition("```")[0]
    rows = re.findall(r"subgraph (\w+)\n(.*?)\n    end", picture, re.DOTALL)
    assert [sorted(names.split()) for _, names in rows] == [sorted(re.split(r"\s*[|:]\s*", each)) for each in layers]
    assert " --> ".join(row for row, _ in rows) in picture


def test_each_package_is_in_the_table_of_packages() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("| package | purpose |")[2].partition("\n\n")[0]
    packages = {each.stem for each in (ROOT / "worker").iterdir() if not each.name.startswith("_")} - {"py"}
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    assert named == packages


def _anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", each)).strip().lower().replace(" ", "-")
        for each in headings
    }


def test_no_file_of_tests_is_longer_than_300_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert not {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 300}
