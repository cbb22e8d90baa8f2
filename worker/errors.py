"""The error tree: transient errors, permanent errors, and refusals.

An error's docstring is its default message. `code` is what the ledger, the events, the HTTP API and the command line
show; it never changes once released. No message contains conversation text, a name, a phone number or an address.
"""

import inspect
import re
from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar

_PREDICATE = re.compile(r"(should|is|are|has|have|cannot|must|needs)\b")


class TaskInterrupt(ABC):  # noqa: B024 - exceptions are registered, not derived
    """Virtual base class of exceptions that must end a whole task, such as Celery's soft time limit.

    `worker/celery.py` registers Celery's. Code that catches the errors of single items must raise these again: `if
    isinstance(error, TaskInterrupt): raise`.
    """


class SnapshotError(Exception):
    """The snapshot could not be made."""

    code: ClassVar[str] = "error"
    names_servers: ClassVar[bool] = False
    """Whether the message may contain the address of a server, which callers of the HTTP API must not see."""

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or inspect.getdoc(type(self)) or self.code
        self.details: dict[str, Any] = details
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery pickles errors to send them between processes; the default would drop the details.
        return _rebuild, (type(self), self.message, self.details)

    @property
    def public_message(self) -> str:
        """The message for callers of the HTTP API."""
        return inspect.getdoc(type(self)) or self.code if self.names_servers else self.message

    def outcome(self) -> dict[str, Any]:
        """Return `{code, message, details}`, as stored in the ledger and sent in the failed event."""
        return {"code": self.code, "message": self.message, "details": self.details}


def _rebuild(kind: type[SnapshotError], message: str, details: dict[str, Any]) -> SnapshotError:
    error = kind.__new__(kind)
    SnapshotError.__init__(error, message, **details)
    return error


# --- transient: the request is retried ----------------------------------------------------------------


class TransientError(SnapshotError):
    """A transient error; the request will be retried."""

    code = "transient"


class StoreUnavailable(TransientError):
    """MongoDB cannot be reached or has no primary."""

    code = "store_unavailable"
    names_servers = True


class ErasureKeyDiffers(StoreUnavailable):
    """SNAPSHOTS_ERASURE_KEY is not the key that earlier erasures used. Set it to that key."""

    code = "erasure_key_differs"


class PolicyUnreadable(TransientError):
    """The organization's policy is not valid, so it is unknown what to redact; see `snapshots policy list`."""

    code = "policy_unreadable"


class StoreConflict(TransientError):
    """MongoDB aborted the operation because of a concurrent one, or the operation timed out."""

    code = "store_conflict"


class BrokerUnavailable(TransientError):
    """Redis cannot be reached or rejects the command."""

    code = "broker_unavailable"
    names_servers = True


class DeadlineExceeded(TransientError):
    """The run exceeded its deadline."""

    code = "deadline_exceeded"


class ParentMissing(TransientError):
    """The contact or conversation is not in the database yet."""

    code = "parent_not_yet_there"


class NotResolvedYet(TransientError):
    """The conversation does not exist in this organization, is not resolved yet, or has no `resolvedAt`."""

    code = "not_resolved_yet"


class EarlierClosingUndecided(TransientError):
    """An earlier closing of the same conversation has no outcome yet."""

    code = "earlier_closing_undecided"


class UnexpectedError(TransientError):
    """An unexpected error; see the log for the traceback."""

    code = "unexpected"


class AcceptUnknown(TransientError):
    """It is unknown whether the request was accepted; repeat it with the same request id."""

    code = "accept_unknown"


class RedriveUnknown(TransientError):
    """It is unknown whether the requests were redriven. List them again: redriven requests are in flight."""

    code = "redrive_unknown"


# --- permanent: the request fails ---------------------------------------------------------------------


class PermanentError(SnapshotError):
    """A permanent error; retrying will not help."""

    code = "permanent"


class ContactNotFound(PermanentError):
    """The organization has no such contact."""

    code = "contact_not_found"


class ContactErased(PermanentError):
    """The contact was erased, so no snapshots of this person are made."""

    code = "erased"


class ConversationNotFound(PermanentError):
    """The contact has no such conversation in this organization."""

    code = "conversation_not_found"


class MessagesNotFound(PermanentError):
    """Some of the messages do not exist or do not belong to this contact."""

    code = "messages_not_found"


class EmptyConversation(PermanentError):
    """The conversation has no messages, or only deleted or internal ones."""

    code = "empty_conversation"


class SnapshotTooLarge(PermanentError):
    """The snapshot would exceed MongoDB's document limit of 16 MiB."""

    code = "snapshot_too_large"


class WorkerLost(PermanentError):
    """The request repeatedly crashed its worker process."""

    code = "worker_lost"


class RetriesExhausted(PermanentError):
    """All attempts failed; the details have the last error. The request can be redriven."""

    code = "retries_exhausted"


class InvalidRequest(PermanentError):
    """The request is not valid."""

    code = "invalid_request"

    def __init__(self, errors: list[dict[str, str]], message: str | None = None) -> None:
        """`errors`: `[{field, message}]`, one per fault."""
        faults = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
        super().__init__(message or f"The request is not valid: {faults}", errors=errors)

    @property
    def errors(self) -> list[dict[str, str]]:
        """The faults as `[{field, message}]`. They are read from the details, which survive pickling."""
        errors: list[dict[str, str]] = self.details["errors"]
        return errors

    def sentences(self, name_of: Callable[[str], str]) -> str:
        """Return the faults as sentences, such as `--split should be 90/5/5.`. `name_of`: names a field."""
        return " ".join(_sentence(name_of(each["field"]), each["message"]) for each in self.errors)


def _sentence(name: str, message: str) -> str:
    colon = "" if _PREDICATE.match(message) else ":"
    return f"{name}{colon} {message}{'' if message.endswith('.') else '.'}"


class InvalidMessage(InvalidRequest):
    """A message in a Celery queue is not valid, so no task can process it."""

    code = "invalid_message"

    def __init__(self, errors: list[dict[str, str]]) -> None:
        faults = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
        super().__init__(errors, f"The Celery message is not valid: {faults}")


# --- the end of a task, not of a request --------------------------------------------------------------


class RequestFailed(SnapshotError):
    """Requests of this task failed; `snapshots requests show` prints the reasons."""

    code = "request_failed"

    @property
    def listing(self) -> str:
        """One line for each request that failed: its id, code and message."""
        return "\n".join(self.details.get("requests", ()))


# --- refusals: returned to the caller, never the outcome of an accepted request ----------------------


class Refused(SnapshotError):
    """The operation was refused."""

    code = "refused"


class RequestIdConflict(Refused):
    """This request id was already used for a request with other fields. Use a new id for this one."""

    code = "request_id_conflict"


class NotFound(Refused):
    """Not found in this organization."""

    code = "not_found"


class SnapshotDeleted(NotFound):
    """The snapshot of this request was deleted."""

    code = "deleted"


class BackfillInProgress(Refused):
    """The organization has another backfill in progress. Wait until it has ended, or cancel it."""

    code = "backfill_in_progress"


class StatisticsTooSlow(Refused):
    """Counting took too long. Narrow the selection with a filter, such as from and to."""

    code = "statistics_too_slow"


class ListenerLost(Refused):
    """Listeners started this entry three times without finishing it, so it may be crashing them."""

    code = "listener_lost"


class InvalidSettings(SnapshotError):
    """A setting is not valid."""

    code = "invalid_settings"


class UnusableServer(InvalidSettings):
    """A server that the settings name cannot be used, and waiting will not help."""

    code = "unusable_server"
