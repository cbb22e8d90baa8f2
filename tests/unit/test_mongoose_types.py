"""docs/mongoose is what scripts/mongoose_types.py makes of today's models."""

from scripts.mongoose_types import FOLDER, files


def test_committed_files_are_those_of_the_models() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == files(), "run python scripts/mongoose_types.py"
