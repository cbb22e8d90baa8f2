"""All checks in turn, each timed; what a server that is away makes senseless is left out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from worker.bootstrap import build
from worker.doctor import (
    clock_checks,
    index_checks,
    mongo_checks,
    process_checks,
    redis_checks,
    settings_checks,
    stream_checks,
)
from worker.doctor.findings import Checked, Finding, Level, checked, failure
from worker.doctor.probe import Probe
from worker.errors import TransientError
from worker.settings import Settings
from worker.stores.connections import Connections

_MONGO = "Start it, or mend SNAPSHOTS_MONGO_URL (address, replicaSet, user and password)."
_REDIS = "Start it, or mend SNAPSHOTS_REDIS_URL (address, password)."
_AGAIN = "Run the doctor again; if it stays, see the log of the server."
Check = Callable[[Connections], Iterable[Finding]]


@dataclass(slots=True)
class Examination:
    """What was found so far."""

    checks: list[Checked] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds of each step of the request that was sent."""

    @property
    def failures(self) -> int:
        return sum(each.level is Level.FAILURE for check in self.checks for each in check.findings)


def examine(*, send: bool, patience: float, begins: Callable[[str], None] = lambda _: None) -> Examination:
    """Checks settings, servers, indexes, streams, clocks, processes; and sends one request, if `send`.

    `begins` is called with the name of each check. `patience`: seconds that the request may take twice.
    """
    made = Examination()
    settings, findings = settings_checks.read()
    made.checks.append(Checked("settings", tuple(findings), 0.0))
    if settings is not None:
        for each in _of_system(settings, made, send=send, patience=patience, begins=begins):
            made.checks.append(each)
    return made


def _of_system(
    settings: Settings, made: Examination, *, send: bool, patience: float, begins: Callable[[str], None]
) -> Iterator[Checked]:
    service = build(settings)
    connections = service.connections

    def run(name: str, check: Check, advice: str = _AGAIN) -> Checked:
        begins(name)
        return checked(name, lambda: check(connections), advice)

    try:
        yield run("mongo", mongo_checks.check, _MONGO)
        yield run("redis", redis_checks.check, _REDIS)
        store, broker = connections.store_answers(), _redis_answers(connections)
        if store:
            yield run("indexes", index_checks.check)
            yield run("ledger", process_checks.check_ledger)
            yield run("beat", process_checks.check_beat)
        if broker:
            yield run("streams", stream_checks.check)
            yield run("workers", process_checks.check_workers)
        if store and broker:
            yield run("clocks", clock_checks.check)
        if send and store and broker:
            probe = Probe(service, patience)
            yield run("request", lambda _: probe())
            made.steps = probe.steps
        elif send:
            unsent = failure("No request was sent: a server is away.", "See the checks of mongo and redis.")
            yield Checked("request", (unsent,), 0.0)
    finally:
        connections.close()


def _redis_answers(connections: Connections) -> bool:
    try:
        stream_checks.alive_listeners(connections)
    except TransientError:
        return False
    return True
