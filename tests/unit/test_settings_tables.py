from pathlib import Path

import pytest

from scripts.settings_tables import DOCUMENTS, with_table


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_document_has_todays_table_of_settings(document: Path) -> None:
    assert document.read_text() == with_table(document), "run python scripts/settings_tables.py"
