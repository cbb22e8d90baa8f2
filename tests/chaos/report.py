"""The table at the end of a run."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from chaos.context import Injected
from chaos.recovery import Times
from chaos.verdict import Verdict

_SHOWN = 5


def table(verdict: Verdict, faults: Sequence[Injected], rows: dict[str, Any], recovered: Times, latency: Times) -> str:
    """Returns the results as plain text in two columns."""
    kinds = Counter(fault.kind for fault in faults)
    lines: list[tuple[str, Any]] = [
        ("requests", verdict.requests.total()),
        *((f"  by {channel}", count) for channel, count in sorted(verdict.requests.items())),
        ("outcomes", verdict.outcomes.total()),
        *((f"  {code}", count) for code, count in sorted(verdict.outcomes.items())),
        ("XADDs without a request id", verdict.bare),
        ("  that Redis can have lost", f"{verdict.excusable} ({verdict.excused_share:.1%})"),
        ("  that it lost before they were accepted", verdict.excused),
        ("  without an answer, never in Redis", verdict.never_taken),
        ("Celery messages without a request id", verdict.messages),
        ("  moved to the intake stream", verdict.moved_messages),
        ("  that Redis can have lost", f"{verdict.excusable_messages} ({verdict.excused_share_of_messages:.1%})"),
        ("  that it lost before they were accepted", verdict.excused_messages),
        ("  lost on the way to a worker", verdict.untaken),
        ("events in the stream", verdict.events),
        ("  more than once", verdict.repeated),
        ("faults", len(faults)),
        *((f"  {kind}", count) for kind, count in sorted(kinds.items())),
        ("SIGKILLs", sum(fault.kills for fault in faults)),
        *rows.items(),
        ("recovery after a fault, p50 / p99 / longest", _shown(recovered)),
        ("acceptance to event, p50 / p99 / longest", _shown(latency)),
        *((kind, len(violations)) for kind, violations in verdict.violations.items()),
    ]
    width = max(len(name) for name, _ in lines)
    text = [f"{name:<{width}}  {value}" for name, value in lines]
    for kind, violations in verdict.violations.items():
        text += [f"{kind}: {violation}" for violation in violations[:_SHOWN]]
        if len(violations) > _SHOWN:
            text.append(f"{kind}: and {len(violations) - _SHOWN} more")
    text.append("every guarantee holds" if verdict.holds else "A GUARANTEE IS BROKEN")
    return "\n".join(text)


def _shown(times: Times) -> str:
    after = f" ({times.slowest})" if times.slowest else ""
    return f"{times.p50:.1f} / {times.p99:.1f} / {times.longest:.1f} s{after}"
