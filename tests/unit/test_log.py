"""Logging: one pipeline, and no passwords or message text in any record."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from support.logs import logging_restored
from worker import log
from worker.log import configure, get_logger, hide_passwords
from worker.settings import load


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    with logging_restored():
        yield


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("mongodb+srv://ana:s3cret@a,b/db", "mongodb+srv://ana:***@a,b/db"),
        ("redis://ana:s3cr@t@host", "redis://ana:***@host"),
        ("redis://ana:s3/cret@host", "redis://ana:***@host"),
        ('Cannot reach "redis://:s3cret@host" at 12:30', 'Cannot reach "redis://:***@host" at 12:30'),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("no url: nothing@all", "no url: nothing@all"),
    ],
)
def test_password_of_a_url_is_hidden(text: str, shown: str) -> None:
    assert hide_passwords(text) == shown


@pytest.mark.parametrize("format_", ["json", "console"])
def test_passwords_are_hidden_wherever_they_are(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(load(log_format=format_))
    url = "redis://ana:s3cret@host:6379/0"
    logger = get_logger("test")
    logger.warning("flat", url=url)
    logger.warning("nested", settings={"urls": [url]})
    logging.getLogger("foreign").warning("connecting to %s", url)
    try:
        raise ConnectionError(url)
    except ConnectionError:
        logger.exception("broken")
        logging.getLogger("foreign").exception("broken")
    written = capsys.readouterr().err
    assert "flat" in written
    assert "foreign" in written
    assert "ConnectionError" in written
    assert "s3cret" not in written


@pytest.mark.parametrize("format_", ["json", "console"])
def test_traceback_shows_no_local_variables(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(load(log_format=format_))
    content = "I moved house" * 2
    try:
        raise ValueError(len(content))
    except ValueError:
        get_logger("test").exception("broken")
    assert content not in capsys.readouterr().err


def test_bound_ids_are_on_every_record_of_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    configure(load(log_format="json"))
    logger = get_logger("test")
    with structlog.contextvars.bound_contextvars(request_id="r1", organization_id="o1"):
        logger.info("inside")
        logging.getLogger("foreign").info("inside")
    logger.info("after")
    *inside, after = lines(capsys)
    assert [each["request_id"] for each in inside] == ["r1", "r1"]
    assert "request_id" not in after
    assert after["event"] == "after"
    assert after["level"] == "info"


def test_lone_surrogates_do_not_break_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    configure(load(log_format="json"))
    get_logger("test").warning("odd", reason="\ud800")
    assert lines(capsys)[0]["event"] == "odd"


def test_commands_of_the_driver_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure(load(log_format="json", log_level="DEBUG"))
    logging.getLogger("pymongo.command").debug("insert a message text")
    assert capsys.readouterr().err == ""
    assert log.get_logger("x") is not None
