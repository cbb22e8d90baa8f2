"""What a run showed, and whether that proves anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from chaos import recovery
from chaos.context import Injected
from chaos.evidence import Evidence
from chaos.verdict import MOST_EXCUSED, MOST_EXCUSED_MESSAGES, MOST_UNTAKEN, Verdict

_MOST_MISSED = 0.1


@dataclass
class Result:
    """What a run showed."""

    verdict: Verdict
    evidence: Evidence
    faults: Sequence[Injected]
    missed: Sequence[str]
    table: str
    recovered: recovery.Times
    settled: bool
    """Whether everything that was sent had its outcome in time after the last fault."""

    @property
    def shortcomings(self) -> list[str]:
        """Why the run proves too little, if it does."""
        reasons = [reason for reason in self.missed if reason.endswith("never done")]
        planned = len(self.faults) + len(self.missed)
        if len(self.missed) > _MOST_MISSED * planned:
            reasons.append(f"{len(self.missed)} of {planned} faults could not be injected")
        if self.verdict.excused_share > MOST_EXCUSED:
            reasons.append(
                f"the check is blind to {self.verdict.excused_share:.1%} of the XADDs without a request id; "
                f"{MOST_EXCUSED:.0%} is the most"
            )
        if self.verdict.excused_share_of_messages > MOST_EXCUSED_MESSAGES:
            reasons.append(
                f"the check is blind to {self.verdict.excused_share_of_messages:.1%} of the Celery messages without a "
                f"request id; {MOST_EXCUSED_MESSAGES:.0%} is the most"
            )
        if self.verdict.untaken_share > MOST_UNTAKEN:
            reasons.append(
                f"{self.verdict.untaken_share:.1%} of the Celery messages without a request id were lost on the way to "
                f"a worker; {MOST_UNTAKEN:.0%} is the most"
            )
        if not self.settled:
            reasons.append(
                "requests were still waiting when the run ended, and count as lost above; this machine may not sustain "
                "the rate (SECONDS= makes it lower)"
            )
        return reasons

    @property
    def is_a_proof(self) -> bool:
        """Whether nearly all faults were injected, each kind at least once, few requests excused, all settled."""
        return not self.shortcomings

    def conclude(self) -> int:
        """Prints the result; returns the exit code, 1 if a guarantee is broken or the run proves too little."""
        for reason in self.missed:
            print(f"not injected: {reason}")
        print(self.table)
        for reason in self.shortcomings:
            print(f"PROVES TOO LITTLE: {reason}")
        return 0 if self.verdict.holds and self.is_a_proof else 1
