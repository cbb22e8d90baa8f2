"""What a check finds."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from worker.errors import SnapshotError


class Level(StrEnum):
    """A failure means that requests are lost, wrong or not done; a warning, that they may be some day."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. `advice`: what to do about it, none where it is fine. No personal data, no passwords."""

    level: Level
    said: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A check with its findings."""

    name: str
    findings: tuple[Finding, ...]
    seconds: float


def ok(said: str) -> Finding:
    return Finding(Level.OK, said)


def warning(said: str, advice: str) -> Finding:
    return Finding(Level.WARNING, said, advice)


def failure(said: str, advice: str) -> Finding:
    return Finding(Level.FAILURE, said, advice)


def checked(name: str, check: Callable[[], Iterable[Finding]], advice: str) -> Checked:
    """Runs a check. A fault that it meets is its last finding, with this advice."""
    began = time.monotonic()
    findings = tuple(_until_fault(check, advice))
    return Checked(name, findings, time.monotonic() - began)


def _until_fault(check: Callable[[], Iterable[Finding]], advice: str) -> Iterator[Finding]:
    try:
        yield from check()
    except SnapshotError as error:
        yield failure(error.message, advice)
