"""Runs all checks in order. Checks that need a server that is down are skipped."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from worker.bootstrap import build
from worker.doctor import (
    clock_checks,
    erasure_checks,
    index_checks,
    mongo_checks,
    process_checks,
    redis_checks,
    settings_checks,
    source_checks,
    stream_checks,
)
from worker.doctor.findings import CheckResult, Finding, Level, failure, run_check
from worker.doctor.probe import Probe
from worker.settings import Settings
from worker.stores.connections import Connections

_MONGO = "Start MongoDB, or correct SNAPSHOTS_MONGO_URL (address, replicaSet, user and password)."
_REDIS = "Start Redis, or correct SNAPSHOTS_REDIS_URL (address, password)."
_REPEAT = "Run the doctor again. If the error persists, see the server's log."
Check = Callable[[Connections], Iterable[Finding]]


@dataclass(slots=True)
class Examination:
    """The results of the doctor's checks that have run so far, and the times of the test request's steps."""

    checks: list[CheckResult] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    """Duration of each step of the test request, in seconds."""

    @property
    def failures(self) -> int:
        """The number of findings that are failures."""
        return sum(finding.level is Level.FAILURE for check in self.checks for finding in check.findings)


def examine(*, send: bool, patience: float, on_check: Callable[[str], None] = lambda _: None) -> Examination:
    """Check settings, servers, indexes, streams, clocks and processes, and send one test request if `send` is set.

    `patience`: seconds that the request may take to be accepted, and then to be decided. `on_check` is called with the
    name of each check when it starts.
    """
    examination = Examination()
    settings, findings = settings_checks.read()
    examination.checks.append(CheckResult("settings", tuple(findings), 0.0))
    if settings is not None:
        for result in _check_system(settings, examination, send=send, patience=patience, on_check=on_check):
            examination.checks.append(result)
    return examination


def _check_system(
    settings: Settings, examination: Examination, *, send: bool, patience: float, on_check: Callable[[str], None]
) -> Iterator[CheckResult]:
    service = build(settings)
    connections = service.connections

    def run(name: str, check: Check, advice: str = _REPEAT) -> CheckResult:
        on_check(name)
        return run_check(name, lambda: check(connections), advice)

    try:
        yield (mongo := run("mongo", mongo_checks.check, _MONGO))
        yield (redis := run("redis", redis_checks.check, _REDIS))
        store, broker = not mongo.server_is_down, not redis.server_is_down
        if store:
            yield run("indexes", index_checks.check)
            yield run("source", source_checks.check)
            yield run("ledger", process_checks.check_ledger)
            yield run("erasures", lambda _: erasure_checks.check(service))
            yield run("beat", process_checks.check_beat)
        if broker:
            yield run("streams", stream_checks.check)
            yield run("workers", process_checks.check_workers)
        if store and broker:
            yield run("clocks", clock_checks.check)
        if send and store and broker:
            probe = Probe(service, patience)
            yield run("request", lambda _: probe())
            examination.steps = probe.steps
        elif send:
            unsent = failure("No request was sent, because a server is down.", "See the checks `mongo` and `redis`.")
            yield CheckResult("request", (unsent,), 0.0)
    finally:
        connections.close()
