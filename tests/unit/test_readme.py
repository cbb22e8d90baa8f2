from worker.settings_table import README, with_table


def test_the_readme_has_todays_table_of_settings() -> None:
    text = README.read_text()
    assert text == with_table(text), "run python -m worker.settings_table"
