"""How a task ends whose requests failed."""

import pickle

from bson import ObjectId

from worker.domain.ledger_entry import Failure
from worker.domain.task_failure import failed_requests, task_failure

ONE, TWO, THREE = (ObjectId() for _ in range(3))
MISSING: Failure = {"code": "contact_not_found", "message": "The organization has no such contact.", "details": {}}
EMPTY: Failure = {"code": "empty_conversation", "message": "The conversation\nhas no messages.", "details": {"x": 1}}


def test_one_request_is_shown_with_its_code_and_message() -> None:
    assert repr(task_failure({ONE: MISSING}, 1)) == (
        "RequestFailed('contact_not_found: The organization has no such contact.')"
    )


def test_chunk_is_shown_with_how_many_failed_by_code() -> None:
    error = task_failure({ONE: MISSING, TWO: EMPTY, THREE: MISSING}, 200)
    assert error.message == "3 of 200 requests failed: 2 contact_not_found, 1 empty_conversation"


def test_list_of_a_failed_task_survives_pickle_and_names_each_request_on_a_line() -> None:
    listing = pickle.loads(pickle.dumps(task_failure({ONE: MISSING, TWO: EMPTY}, 2))).listing
    assert listing.splitlines()[1] == f"{TWO}: empty_conversation: The conversation has no messages."
    assert failed_requests(listing) == [ONE, TWO]


def test_other_tracebacks_list_no_requests() -> None:
    assert failed_requests(f'Traceback (most recent call last):\n  File "x", line 1\nKeyError: {ONE}') == []
