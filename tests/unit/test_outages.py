"""What Celery logs about an outage of Redis."""

import logging

from worker.celery_support.outages import Repeats

SENTENCE = "consumer: Cannot connect to redis://127.0.0.1:6379/0: command not allowed when used memory > 'maxmemory'."


def test_sentence_about_an_outage_is_logged_once_in_10_seconds_with_the_number_of_its_repeats() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)

    def logged(text: str) -> str | None:
        record = logging.LogRecord("celery", logging.ERROR, "", 0, "%s", (text,), None)
        return record.getMessage() if repeats.filter(record) else None

    assert [logged(SENTENCE) for _ in range(3)] == [SENTENCE, None, None]
    assert logged("consumer: Cannot connect to another") == "consumer: Cannot connect to another"
    now = 9.9
    assert logged(SENTENCE) is None
    now = 10.0
    assert logged(SENTENCE) == f"{SENTENCE} (repeats suppressed: 3)"
    assert logged(SENTENCE) is None
    now = 20.0
    assert logged(SENTENCE) == f"{SENTENCE} (repeats suppressed: 1)"


def test_other_sentences_are_logged_each_time_and_few_are_remembered() -> None:
    repeats = Repeats(lambda: 0.0)
    records = [logging.LogRecord("celery", logging.ERROR, "", 0, "A message was dropped", (), None) for _ in range(3)]
    assert all(map(repeats.filter, records))
    for number in range(1000):
        text = f"consumer: Cannot connect to {number}"
        assert repeats.filter(logging.LogRecord("celery", logging.ERROR, "", 0, text, (), None))
    assert len(repeats.not_before) <= 100
