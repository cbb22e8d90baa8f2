"""The error tree: what may go well later, and what never will.

An error's docstring is its default message. `code` is what the ledger, the events, the HTTP surface
and the command line show; it never changes once released. No message carries text of a conversation,
a name, a phone number or an address.
"""

import inspect
from typing import Any, ClassVar


class SnapshotError(Exception):
    """Something went wrong with a snapshot."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or inspect.getdoc(type(self)) or self.code
        self.details: dict[str, Any] = details
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery sends errors between processes by pickle, which would drop the details.
        return _rebuild, (type(self), self.message, self.details)

    def outcome(self) -> dict[str, Any]:
        """`{code, message, details}`, as the ledger and the failed event show it."""
        return {"code": self.code, "message": self.message, "details": self.details}


def _rebuild(kind: type[SnapshotError], message: str, details: dict[str, Any]) -> SnapshotError:
    error = kind.__new__(kind)
    SnapshotError.__init__(error, message, **details)
    return error


# --- may go well later -------------------------------------------------------------------------------


class TransientError(SnapshotError):
    """A fault that may pass; the request is tried again."""

    code = "transient"


class StoreUnavailable(TransientError):
    """MongoDB cannot be reached, or has no primary at the moment."""

    code = "store_unavailable"


class StoreConflict(TransientError):
    """MongoDB aborted the operation in favour of a concurrent one, or it took too long."""

    code = "store_conflict"


class BrokerUnavailable(TransientError):
    """Redis cannot be reached, or refuses to write."""

    code = "broker_unavailable"


class DeadlineExceeded(TransientError):
    """The run took longer than its deadline."""

    code = "deadline_exceeded"


class ParentNotYetThere(TransientError):
    """The contact or the conversation is not in the database yet."""

    code = "parent_not_yet_there"


class NotResolvedYet(TransientError):
    """The organization has no such conversation, or it is not resolved, or has no `resolvedAt`. It may still come."""

    code = "not_resolved_yet"


class EarlierClosingUndecided(TransientError):
    """An earlier closing of the conversation has no outcome yet; this one follows it."""

    code = "earlier_closing_undecided"


class Unexpected(TransientError):
    """An error that no one foresaw; the log has its traceback."""

    code = "unexpected"


class AcceptUnknown(TransientError):
    """Whether the request was accepted is not known; repeat it with the same request id."""

    code = "accept_unknown"


# --- will not go well: the request fails for good -----------------------------------------------------


class PermanentError(SnapshotError):
    """A fault that trying again does not mend."""

    code = "permanent"


class ContactNotFound(PermanentError):
    """The organization has no such contact."""

    code = "contact_not_found"


class ConversationNotFound(PermanentError):
    """The contact has no such conversation in this organization."""

    code = "conversation_not_found"


class MessagesNotFound(PermanentError):
    """Some of the messages do not exist, or are not this contact's."""

    code = "messages_not_found"


class EmptyConversation(PermanentError):
    """There is no message to make a snapshot of."""

    code = "empty_conversation"


class SnapshotTooLarge(PermanentError):
    """The snapshot would exceed MongoDB's limit of 16 MiB a document."""

    code = "snapshot_too_large"


class WorkerLost(PermanentError):
    """The request ended its worker process several times."""

    code = "worker_lost"


class RetriesExhausted(PermanentError):
    """The request met faults that should pass, more often than is tried."""

    code = "retries_exhausted"


class InvalidRequest(PermanentError):
    """The request is not valid."""

    code = "invalid_request"

    def __init__(self, errors: list[dict[str, str]], message: str | None = None) -> None:
        """`errors`: `[{field, message}]`, one for each fault."""
        said = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
        super().__init__(message or f"The request is not valid: {said}", errors=errors)

    @property
    def errors(self) -> list[dict[str, str]]:
        """As given; of the details, so that they survive pickle."""
        errors: list[dict[str, str]] = self.details["errors"]
        return errors


# --- answers to whoever asks, never an outcome of a request -------------------------------------------


class Refused(SnapshotError):
    """The operation is refused."""

    code = "refused"


class RequestIdConflict(Refused):
    """This request id was used before with another body."""

    code = "request_id_conflict"


class NotFound(Refused):
    """There is no such thing in this organization."""

    code = "not_found"


class Deleted(NotFound):
    """The snapshot of this request was deleted."""

    code = "deleted"


class InvalidSettings(SnapshotError):
    """A setting is not valid."""

    code = "invalid_settings"
