"""Turns any message in a queue's list, valid or not, into the payload that kombu expects.

A valid message is rebuilt from its checked parts, with a delivery tag and delivery information of our own. An invalid
one becomes a carrier: a valid payload that holds the message and its fault, which the consumer records in the stream of
rejected entries. Like any message, a carrier is stored as unacknowledged, so that it survives a crash.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from secrets import token_hex
from traceback import format_tb
from typing import Any

from worker.celery_support.message_format import (
    CARRIER,
    NOT_BEFORE,
    CheckedMessage,
    check_message,
    decode_body,
    fault,
    is_name,
    parse_message,
)
from worker.errors import InvalidMessage
from worker.intake.entries import PRODUCER_TASKS
from worker.log import get_logger
from worker.stores.events import MAX_REJECTION_BYTES

log = get_logger(__name__)

_MAX_BYTES = 2**40
"""More bytes than any message in Redis can have."""


def read_payload(raw: bytes, queue: str) -> dict[str, Any]:
    """Return the payload of a message, or a carrier if the message is not valid."""
    try:
        return _payload(_without_countdown(check_message(raw)), queue)
    except InvalidMessage as error:
        return _known_carrier(raw, queue) or carrier(raw, queue, error)
    except Exception as error:  # noqa: BLE001 - an error in the check itself must not end the worker either
        log.error("message_check_failed", reason=type(error).__name__, at=format_tb(error.__traceback__))
        return carrier(raw, queue, fault("message", f"could not be checked ({type(error).__name__})"))


def find_fault(raw: bytes, check_call: Callable[[str, bytes], None]) -> InvalidMessage | None:
    """Return what is wrong with a message, or None if it is valid or has to be checked by the consumer.

    `check_call`: gets the name of the task and the body; raises InvalidMessage if there is no such task, or it
    does not accept the arguments.
    """
    try:
        message = check_message(raw)
        check_call(message.headers["task"], base64.b64decode(message.body))
    except InvalidMessage as error:
        return None if _known_carrier(raw, "") else error
    except Exception:  # noqa: BLE001 - the consumer checks it again, and then records and logs it
        return None
    return None


def carrier(raw: bytes, queue: str, error: InvalidMessage) -> dict[str, Any]:
    """Return a valid message that carries a malformed one to the consumer, which records it as rejected.

    `raw`: the bytes in Redis. `queue`: the list that they come from. `error`: what is wrong with them.
    """
    headers = {"task": CARRIER, "id": rejected_id(raw), "errors": error.errors, "bytes": len(raw)}
    body = base64.b64encode(raw[:MAX_REJECTION_BYTES]).decode()
    return _payload(CheckedMessage(body, headers, None, None, redelivered=False), queue)


def original(raw: bytes, queue: str, size: int) -> dict[str, Any]:
    """Return the fields to record of a rejected message of `size` bytes. `worker.stores.events` limits their length."""
    return {"message": raw[:MAX_REJECTION_BYTES], "queue": queue, "bytes": size}


def _without_countdown(message: CheckedMessage) -> CheckedMessage:
    """Move the `eta` of a producer's message to a header of ours, from which the task stores it in the ledger.

    Celery would fetch all such messages at once and hold them in memory, and run no others while they become due. Our
    own retries, which have short delays, stay as they are. A closing has the delay of its policy instead.
    """
    headers = message.headers
    if headers["task"] not in PRODUCER_TASKS or headers["retries"] or not headers.get("eta"):
        return message
    return replace(message, headers={**headers, "eta": None, NOT_BEFORE: headers["eta"]})


def _payload(message: CheckedMessage, queue: str) -> dict[str, Any]:
    return {
        "body": message.body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": message.headers,
        "properties": {
            "correlation_id": message.correlation_id,
            "reply_to": message.reply_to,
            "delivery_mode": 2,
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": token_hex(16),
            "delivery_info": {"exchange": "", "routing_key": queue, "redelivered": message.redelivered},
        },
    }


def _known_carrier(raw: bytes, queue: str) -> dict[str, Any] | None:
    """Return the payload of a carrier that a worker put back because it could not record it, or None."""
    try:
        message = parse_message(raw)
        headers = message.get("headers")
        if not isinstance(headers, dict) or headers.get("task") != CARRIER or not _is_carrier(headers):
            return None
        decode_body(message)
    except InvalidMessage:
        return None
    kept = {name: headers[name] for name in ("task", "id", "errors", "bytes")}
    return _payload(CheckedMessage(message["body"], kept, None, None, redelivered=True), queue)


def _is_carrier(headers: Mapping[str, Any]) -> bool:
    errors = headers.get("errors")
    return (
        is_name(headers.get("id"))
        and type(headers.get("bytes")) is int
        and 0 <= headers["bytes"] <= _MAX_BYTES
        and isinstance(errors, list)
        and len(errors) == 1
        and isinstance(errors[0], dict)
        and errors[0].keys() == {"field", "message"}
        and all(is_name(text) for text in errors[0].values())
    )


def rejected_id(raw: bytes) -> str:
    """Return the message's id, or a new one if it has none that can be used."""
    try:
        key = parse_message(raw)["headers"]["id"]
    except (InvalidMessage, TypeError, KeyError):
        key = None
    return str(key) if is_name(key) else token_hex(16)
