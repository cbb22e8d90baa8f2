"""`python -m benchmarks`: makes all measurements on the same servers and data and writes the results."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from textwrap import shorten
from typing import Any, TypeVar

from benchmarks import comparing, peers, references
from benchmarks.busy import busy
from benchmarks.conversation_sizes import sizes
from benchmarks.latency import Latency, measures
from benchmarks.machine import about, wait_until_quiet
from benchmarks.memory import memory
from benchmarks.options import Options, read
from benchmarks.paths import PATHS
from benchmarks.plot import draw
from benchmarks.report import markdown
from benchmarks.runs import BULK, LOOP, NAIVE, Run
from benchmarks.session import Session, session
from worker.errors import SnapshotError

Result = TypeVar("Result")


class Measuring:
    """Runs measurements one after the other; records one that fails and continues."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.failures: list[str] = []

    def __call__(self, name: str, measure: Callable[[], Result]) -> Result | None:
        """Wait for a quiet machine, measure, and return the result, or None if it failed."""
        wait_until_quiet(self._options.patience)
        try:
            result = measure()
        except Exception as error:  # noqa: BLE001 - named in the results; the others took half an hour
            reason = shorten(f"{type(error).__name__}: {error}", 600)
            self.failures.append(f"{name}: {reason}")
            _say(f"{name}: failed: {reason}")
            return None
        return result


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def rates(current: Session, measuring: Measuring) -> list[Run]:
    """Measure rates round by round: all contenders one after the other, every second round in reverse."""
    options = current.options
    if not options.paths:
        return []
    contenders: dict[str, Callable[[int], Run]] = {
        LOOP: partial(references.loop, current),
        BULK: partial(references.bulk, current),
        NAIVE: partial(references.naive, current),
        **{name: partial(PATHS[name], current) for name in options.paths},
    }
    for name in options.contenders if options.peers else ():
        contenders[name] = partial(_peer, current, name)
    found = []
    for number in range(1, options.rounds + 1):
        names = list(contenders)
        for name in names if number % 2 else reversed(names):
            if run := measuring(name, partial(contenders[name], number)):
                found.append(run)
                _say(_line(run, options.rounds))
    return found


def _peer(current: Session, name: str, number: int) -> Run:
    return peers.rate(current, number, name)


def _line(run: Run, rounds: int) -> str:
    costs = ", ".join(f"{name} {spent:.0f}" for name, spent in run.costs["cpu_us"].items() if spent is not None)
    foreign = 100 * (run.costs.get("foreign") or 0)
    return (
        f"round {run.round}/{rounds}  {run.name:18} {run.rate:8.0f}/s  normalised {run.normalised:7.0f}/s"
        f"  speed {run.speed:.2f}  foreign {foreign:.0f} %  µs: {costs}"
    )


def latencies(current: Session, measuring: Measuring) -> list[Latency]:
    """Measure latencies, interleaved like the rates."""
    found = []
    for number in range(1, current.options.rounds + 1):
        for name, measure in measures(current):
            if latency := measuring(name, partial(measure, number)):
                found.append(latency)
                times = f"p50 {latency.p50_ms} ms  p99 {latency.p99_ms} ms"
                _say(f"round {number}/{current.options.rounds}  {name:28} {times}")
    return found


def _once(name: str, current: Session, measuring: Measuring, measure: Callable[[Session], Any]) -> Any:
    if name not in current.options.only:
        return None
    found = measuring(name, partial(measure, current))
    _say(f"{name}: {json.dumps(found)}")
    return found


def measure_all(options: Options) -> dict[str, Any]:
    """Make all measurements and return the content of the JSON file."""
    if options.peers:
        peers.set_up(options.peers)
    measuring = Measuring(options)
    with session(options) as current:
        runs = rates(current, measuring)
        latency = latencies(current, measuring) if "latency" in options.only else []
        return {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": about(),
            "servers": current.versions(),
            "asked": {
                "rounds": options.rounds,
                "contacts": options.amounts.contacts,
                "messages": options.messages,
                "by_conversation": options.by_conversation,
            },
            "fastest_peer": comparing.fastest_peer(runs),
            "rates": comparing.rows(runs) if runs else [],
            "latency": comparing.latency_rows(latency),
            "sizes": _once("sizes", current, measuring, sizes),
            "memory": _once("memory", current, measuring, memory),
            "busy": _once("busy", current, measuring, busy),
            "failures": measuring.failures,
            "runs": [run.as_fields() for run in runs],
            "latencies": [each.as_fields() for each in latency],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 1 if a measurement failed."""
    options = read(arguments)
    try:
        results = measure_all(options)
    except (SnapshotError, subprocess.CalledProcessError) as error:
        _say(f"benchmarks: {error}")
        return 1
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    (options.results / "benchmarks.md").write_text(text)
    draw(results, options.results / "benchmarks.png")
    print(text)
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
