"""Which missing requests are no violation: those that Redis lost, or never had, before they were accepted."""

from typing import Any

from chaos.evidence import Evidence
from chaos.intake_losses import covered, entry_id
from chaos.journal import SENT, Record
from chaos.verdict import Verdict


def is_excused(record: Record, entry: dict[str, Any] | None, evidence: Evidence, verdict: Verdict) -> bool:
    """Whether a missing bare request is explained: Redis lost it before it was acknowledged, or never had it."""
    if not record.is_bare or not record.sends:
        return False
    if record.channel == "task":
        return _is_excused_message(record, entry, evidence, verdict)
    verdict.bare += 1
    text = (record.request_id or "").removeprefix("stream:") or evidence.seen_in_stream.get(record.token)
    excusable = covered(evidence.losses, entry_id(text) if text else None, record.sends)
    verdict.excusable += excusable
    if entry is not None:
        return False
    verdict.excused += excusable
    verdict.never_taken += not excusable and text is None
    return excusable or text is None


def _is_excused_message(record: Record, entry: dict[str, Any] | None, evidence: Evidence, verdict: Verdict) -> bool:
    """Whether a missing bare Celery message is explained: Redis lost it, or a worker that was about to take it did."""
    if record.answer != SENT:
        return False
    verdict.messages += 1
    verdict.moved_messages += record.token in evidence.seen_in_stream
    moved = evidence.seen_in_stream.get(record.token)  # to the intake stream
    excusable = any(loss.covers_message(record.token, *record.sends[-1]) for loss in evidence.losses)
    excusable |= moved is not None and covered(evidence.losses, entry_id(moved), record.sends)
    verdict.excusable_messages += excusable
    if entry is not None:
        return False
    untaken = not excusable and moved is None and record.token not in evidence.taken
    verdict.excused_messages += excusable
    verdict.untaken += untaken
    return excusable or untaken
