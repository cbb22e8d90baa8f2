"""Which missing requests the checker excuses: those that Redis can have lost, and no others."""

import pytest

from chaos.checker import check
from chaos.intake_losses import Acknowledged, Loss
from chaos.journal import SENT, UNKNOWN
from chaos.sound_evidence import DONE, sound, without_entry
from chaos.verdict import LOST, Verdict

# --- an XADD without a request id, which is not acceptance ---------------------------------------------------

SENT_AT = 1000.0
ENTRY = "1000050-0"
"""The id of an entry that was added within 50 ms of `SENT_AT`."""


def missing(answer: str, *losses: Loss, seen: str | None = None, sends: int = 1) -> Verdict:
    """The verdict on a bare XADD that is not in the ledger; with answer SENT, its id is `ENTRY`."""
    evidence = sound()
    without_entry(evidence, DONE)
    record = evidence.records["n0"]
    record.request_id = f"stream:{ENTRY}" if answer == SENT else None
    record.answer, record.sends = answer, [(SENT_AT, SENT_AT + 0.1)] * sends
    evidence.losses = losses
    evidence.seen_in_stream = {"n0": seen} if seen else {}
    return check(evidence, [])


def restart(at: int, kept: int, acknowledged: int = 0) -> Loss:
    """Redis started again with the entries up to `kept`; those up to `acknowledged` had been acknowledged."""
    return Loss(at, (kept, 0), Acknowledged((acknowledged, 0)), read_at=at / 1000 - 1, gone_at=at / 1000 - 0.5)


def test_what_was_acknowledged_once_stays_so_although_it_is_delivered_again() -> None:
    one, two, three = (1, 0), (2, 0), (3, 0)
    seen = Acknowledged().after(two, frozenset({one}))
    assert (one in seen, two in seen, three in seen) == (False, True, False)
    seen = seen.after((0, 0), frozenset({one, two}))  # the group was set back
    assert (one in seen, two in seen) == (False, True)
    seen = seen.after(three, frozenset())
    assert one in seen
    assert three in seen


def test_entry_behind_what_a_restart_kept_is_excused() -> None:
    verdict = missing(SENT, restart(at=1_002_000, kept=1_000_049))
    assert verdict.holds
    assert (verdict.bare, verdict.excusable, verdict.excused, verdict.never_taken) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param((), id="no loss"),
        pytest.param((restart(at=1_002_000, kept=1_000_050),), id="kept by the restart"),
        pytest.param((restart(at=1_000_000, kept=0),), id="added after the restart"),
        pytest.param((restart(at=1_002_000, kept=1_000_040, acknowledged=1_000_050),), id="acknowledged"),
        pytest.param(
            (restart(at=1_000_040, kept=999_000), restart(at=9_000_000, kept=8_999_000)), id="between two restarts"
        ),
        pytest.param(
            (Loss(1_002_000, (0, 0), Acknowledged((1_000_050, 0)), 1001.0, 1002.0),), id="acknowledged before the flush"
        ),
    ],
)
def test_entry_that_redis_cannot_have_lost_is_a_violation(losses: tuple[Loss, ...]) -> None:
    verdict = missing(SENT, *losses)
    assert verdict.violations[LOST]
    assert verdict.excusable == 0


def test_damaged_append_only_file_excuses_nothing_that_was_acknowledged() -> None:
    """A file that was cut far back loses entries of any age, but not those whose requests had to be durable."""
    cut = restart(at=9_000_000, kept=10_000, acknowledged=1_000_050)
    assert missing(SENT, cut).violations[LOST]
    assert missing(SENT, restart(at=9_000_000, kept=10_000, acknowledged=1_000_049)).holds


def test_entry_without_an_answer_that_was_never_in_redis_is_no_loss() -> None:
    verdict = missing(UNKNOWN)
    assert verdict.holds
    assert (verdict.excusable, verdict.excused, verdict.never_taken) == (0, 0, 1)


def test_entry_without_an_answer_that_was_seen_in_the_stream_is_a_violation() -> None:
    assert missing(UNKNOWN, seen=ENTRY).violations[LOST]
    assert missing(UNKNOWN, restart(at=1_002_000, kept=1_000_000), seen=ENTRY).holds


def test_entry_without_an_answer_is_excused_only_if_the_process_died_about_then() -> None:
    assert missing(UNKNOWN, restart(at=1_001_000, kept=1)).excusable == 1
    assert missing(UNKNOWN, restart(at=990_000, kept=1)).excusable == 0
    assert missing(UNKNOWN, restart(at=1_100_000, kept=1)).excusable == 0


def test_request_that_was_never_sent_is_lost() -> None:
    assert missing(UNKNOWN, sends=0).violations[LOST]


def test_blindness_is_counted_also_where_nothing_is_missing() -> None:
    evidence = sound()
    record = evidence.records["n0"]
    record.request_id = f"stream:{ENTRY}"
    evidence.ledger[0]["requestId"] = record.request_id
    evidence.losses = [restart(at=1_002_000, kept=1)]
    verdict = check(evidence, [])
    assert (verdict.excusable, verdict.excused, verdict.excused_share) == (1, 0, 1.0)


# --- a Celery message without a request id --------------------------------------------------------------------


def missing_message(
    *losses: Loss, taken: bool = True, moved: bool = False, answer: str = SENT, request_id: str = "task:n0"
) -> Verdict:
    """The verdict on a Celery message whose request is not in the ledger. `moved`: to the intake stream."""
    evidence = sound()
    without_entry(evidence, DONE)
    record = evidence.records["n0"]
    record.channel, record.answer, record.request_id = "task", answer, request_id
    record.sends = [(900.0, 901.0), (SENT_AT, SENT_AT + 0.1)]
    evidence.losses = losses
    evidence.taken = frozenset({"n0"} if taken else ())
    evidence.seen_in_stream = {"n0": ENTRY} if moved else {}
    return check(evidence, [])


def flush(*messages: str) -> Loss:
    """A FLUSHALL that removed these messages."""
    return Loss(1_002_000, (0, 0), Acknowledged(), 1001.0, 1002.0, frozenset(messages))


@pytest.mark.parametrize("loss", [restart(at=1_002_000, kept=1_000_099), flush("n0")])
def test_message_that_redis_can_have_lost_is_excused(loss: Loss) -> None:
    verdict = missing_message(loss)
    assert verdict.holds
    assert (verdict.messages, verdict.excusable_messages, verdict.excused_messages, verdict.untaken) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param((), id="no loss"),
        pytest.param((restart(at=1_002_000, kept=1_000_200),), id="kept by the restart"),
        pytest.param((restart(at=999_000, kept=0),), id="sent after the restart"),
        pytest.param((restart(at=950_000, kept=0),), id="an attempt without an answer was lost, and repeated"),
        pytest.param((flush("n1"),), id="accepted before the flush"),
    ],
)
def test_message_that_a_worker_has_taken_and_redis_cannot_have_lost_is_a_violation(losses: tuple[Loss, ...]) -> None:
    verdict = missing_message(*losses)
    assert verdict.violations[LOST]
    assert (verdict.excusable_messages, verdict.untaken) == (0, 0)


def test_message_that_no_worker_has_taken_is_counted() -> None:
    verdict = missing_message(taken=False)
    assert verdict.holds
    assert (verdict.messages, verdict.untaken, verdict.untaken_share) == (1, 1, 1.0)


def test_message_that_was_moved_to_the_stream_is_excused_if_it_was_lost_there() -> None:
    assert missing_message(Loss(1_002_000, (0, 0), Acknowledged(), 1001.0, 1002.0, frozenset()), moved=True).holds
    acknowledged = Loss(1_002_000, (0, 0), Acknowledged((1_000_050, 0)), 1001.0, 1002.0, frozenset())
    assert missing_message(acknowledged, taken=False, moved=True).violations[LOST]
    assert missing_message(taken=False, moved=True).violations[LOST]


def test_message_that_its_producer_can_send_again_is_never_excused() -> None:
    assert missing_message(flush("n0"), request_id="chaos-n0").violations[LOST]
    assert missing_message(flush("n0"), answer=UNKNOWN).violations[LOST]


def test_blindness_to_messages_is_counted_also_where_nothing_is_missing() -> None:
    evidence = sound()
    record = evidence.records["n0"]
    record.channel, record.request_id = "task", "task:n0"
    evidence.ledger[0].update(requestId="task:n0", trigger="task")
    evidence.losses = [flush("n0")]
    verdict = check(evidence, [])
    assert (verdict.excusable_messages, verdict.excused_messages, verdict.excused_share_of_messages) == (1, 0, 1.0)
