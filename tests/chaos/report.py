"""The table at the end."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from chaos.checker import Verdict
from chaos.context import Done
from chaos.recovery import Times

_SHOWN = 5


def table(verdict: Verdict, faults: Sequence[Done], rows: dict[str, Any], recovered: Times, latency: Times) -> str:
    """Plain text, two columns."""
    kinds = Counter(each.kind for each in faults)
    lines: list[tuple[str, Any]] = [
        ("requests", verdict.requests.total()),
        *((f"  by {way}", count) for way, count in sorted(verdict.requests.items())),
        ("outcomes", verdict.outcomes.total()),
        *((f"  {code}", count) for code, count in sorted(verdict.outcomes.items())),
        ("bare XADDs that never were accepted", verdict.not_accepted),
        ("events in the stream", verdict.events),
        ("  of them more than once", verdict.repeated),
        ("faults", len(faults)),
        *((f"  {kind}", count) for kind, count in sorted(kinds.items())),
        ("SIGKILLs", sum(each.kills for each in faults)),
        *rows.items(),
        ("recovery after a fault, p50 / p99 / longest", _shown(recovered)),
        ("acceptance to event, p50 / p99 / longest", _shown(latency)),
        *((kind, len(found)) for kind, found in verdict.violations.items()),
    ]
    width = max(len(name) for name, _ in lines)
    text = [f"{name:<{width}}  {value}" for name, value in lines]
    for kind, found in verdict.violations.items():
        text += [f"{kind}: {each}" for each in found[:_SHOWN]]
        if len(found) > _SHOWN:
            text.append(f"{kind}: and {len(found) - _SHOWN} more")
    text.append("the promise holds" if verdict.holds else "THE PROMISE IS BROKEN")
    return "\n".join(text)


def _shown(times: Times) -> str:
    after = f" ({times.slowest})" if times.slowest else ""
    return f"{times.p50:.1f} / {times.p99:.1f} / {times.longest:.1f} s{after}"
