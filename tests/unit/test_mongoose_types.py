"""docs/mongoose is what scripts/mongoose_types.py makes of today's models."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "mongoose_types.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("mongoose_types", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_files_are_those_of_the_models(script: Any) -> None:
    committed = {path.name: path.read_text() for path in script.FOLDER.iterdir()}
    assert committed == script.files(), "run python scripts/mongoose_types.py"
