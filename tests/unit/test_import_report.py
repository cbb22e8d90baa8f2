"""The report of an import, whose file may be of another kind and have millions of lines."""

from pathlib import Path

from bson import ObjectId

from worker.importing.files import MAX_REFUSALS, Report


def test_all_refused_lines_are_counted_and_the_first_are_kept() -> None:
    report = Report(ObjectId())
    for line in range(1, MAX_REFUSALS + 11):
        report.refuse(Path("table.csv"), line, "should be a JSON object")
    assert report.refusals == report.to_json()["refused"] == MAX_REFUSALS + 10
    assert [each.line for each in report.refused] == list(range(1, MAX_REFUSALS + 1))
