"""The JSON form of BSON values."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, DatetimeMS, Decimal128, Int64, ObjectId

from worker.domain.json_values import JsonEncoder, render

ID = ObjectId("6a1b2c3d4e5f60718293a4b5")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ID, "6a1b2c3d4e5f60718293a4b5"),
        (datetime(2026, 5, 18, 14, 30, tzinfo=UTC), "2026-05-18T14:30:00.000Z"),
        (datetime(2026, 5, 18, 14, 30, 0, 123999), "2026-05-18T14:30:00.123Z"),  # noqa: DTZ001 - some drivers give naive dates
        (DatetimeMS(0), "1970-01-01T00:00:00.000Z"),
        (DatetimeMS(-1), "1969-12-31T23:59:59.999Z"),
        # The same as `new Date(ms).toJSON()` in JavaScript.
        (DatetimeMS(8_640_000_000_000_000), "+275760-09-13T00:00:00.000Z"),
        (DatetimeMS(-8_640_000_000_000_000), "-271821-04-20T00:00:00.000Z"),
        (DatetimeMS(253_402_300_800_000), "+010000-01-01T00:00:00.000Z"),
        (DatetimeMS(-62_167_219_200_000), "0000-01-01T00:00:00.000Z"),
        (DatetimeMS(8_640_000_000_000_001), None),
        (float("nan"), None),
        (float("inf"), None),
        (Int64(2**53), 2**53),
        (True, True),
        (None, None),
        ("Grüße 😀", "Grüße 😀"),
        (b"\x00\xff", "00ff"),
        (Binary(b"\x01"), "01"),
        (Decimal128("1.10"), "1.10"),
        ({"_id": ID, "list": [ID, {"at": (ID,)}]}, {"_id": str(ID), "list": [str(ID), {"at": [str(ID)]}]}),
    ],
)
def test_bson_values_have_one_form_in_json(value: Any, expected: Any) -> None:
    assert render(value) == expected
    assert JsonEncoder(sort_keys=True)({"value": value}) == json.dumps({"value": expected}, sort_keys=True)
