"""Findings of a check: facts with a level, and advice for each problem."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from worker.errors import BrokerUnavailable, SnapshotError, StoreUnavailable, UnusableServer


class Level(StrEnum):
    """A failure means that requests are lost, wrong or not processed; a warning, that this may happen later."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """A result of a check. `advice` says what to do about a problem. Neither text has personal data or passwords."""

    level: Level
    message: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The name of a check, and what it found."""

    name: str
    findings: tuple[Finding, ...]
    seconds: float
    server_is_down: bool = False
    """Whether the check ended because its server cannot be used. Other checks that need the server are then skipped."""


def ok(message: str) -> Finding:
    """Return a finding without a fault."""
    return Finding(Level.OK, message)


def warning(message: str, advice: str) -> Finding:
    """Return a finding about something that may cause a failure later. `advice`: what to do about it."""
    return Finding(Level.WARNING, message, advice)


def failure(message: str, advice: str) -> Finding:
    """Return a finding about requests that are lost, wrong or not processed. `advice`: what to do about it."""
    return Finding(Level.FAILURE, message, advice)


def run_check(name: str, check: Callable[[], Iterable[Finding]], advice: str) -> CheckResult:
    """Run a check and time it. An error that ends the check becomes its last finding, with this advice."""
    began = time.monotonic()
    findings: list[Finding] = []
    down = False
    try:
        findings.extend(check())
    except SnapshotError as error:
        findings.append(failure(error.message, advice))
        down = isinstance(error, UnusableServer | StoreUnavailable | BrokerUnavailable)
    return CheckResult(name, tuple(findings), time.monotonic() - began, down)
