"""The error tree: errors survive the way between processes with all their details."""

import pickle

import pytest

from worker import errors
from worker.errors import InvalidRequest, MessagesNotFound, SnapshotError, SnapshotTooLarge, StoreUnavailable


def every(kind: type[SnapshotError]) -> list[type[SnapshotError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in every(below))]


TREE = [kind for kind in every(SnapshotError) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("MongoDB cannot be reached (AutoReconnect).", code=6),
        SnapshotTooLarge(bytes=17_000_000, limit=16_777_216),
        MessagesNotFound(missing=["6a1b2c3d4e5f60718293a4b5"], missingCount=1),
        InvalidRequest([{"field": "tags", "message": "should be an array"}]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_survives_pickle_with_its_details(error: SnapshotError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.outcome() == error.outcome()
    assert str(again) == str(error)


def test_invalid_request_keeps_its_faults_through_pickle() -> None:
    faults = [{"field": "tags", "message": "should be an array"}]
    again = pickle.loads(pickle.dumps(InvalidRequest(faults)))
    assert again.errors == faults


@pytest.mark.parametrize(
    "kind", [kind for kind in TREE if not issubclass(kind, InvalidRequest)], ids=lambda kind: kind.__name__
)
def test_docstring_is_the_default_message(kind: type[SnapshotError]) -> None:
    assert kind().message == kind.__doc__


def test_every_kind_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in TREE]
    assert len(codes) == len(set(codes))
