"""Findings of a check: facts with a level, and advice for each problem."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from worker.errors import SnapshotError


class Level(StrEnum):
    """A failure means that requests are lost, wrong or not processed; a warning, that this may happen later."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. `advice` says what to do about a problem. Neither holds personal data or passwords."""

    level: Level
    message: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check with its findings."""

    name: str
    findings: tuple[Finding, ...]
    seconds: float


def ok(message: str) -> Finding:
    return Finding(Level.OK, message)


def warning(message: str, advice: str) -> Finding:
    return Finding(Level.WARNING, message, advice)


def failure(message: str, advice: str) -> Finding:
    return Finding(Level.FAILURE, message, advice)


def run_check(name: str, check: Callable[[], Iterable[Finding]], advice: str) -> CheckResult:
    """Run a check and time it. An error that ends the check becomes its last finding, with this advice."""
    began = time.monotonic()
    findings = tuple(_until_error(check, advice))
    return CheckResult(name, findings, time.monotonic() - began)


def _until_error(check: Callable[[], Iterable[Finding]], advice: str) -> Iterator[Finding]:
    try:
        yield from check()
    except SnapshotError as error:
        yield failure(error.message, advice)
