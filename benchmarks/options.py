"""What is asked of a run of the benchmarks: the command line, and how much work each part gets."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

SECTIONS = ("interactive", "stream", "backfill", "latency", "busy", "sizes", "memory")
"""What can be named with --only; the first three are compared with the references, round by round."""
PATHS = SECTIONS[:3]
CONTENDERS = (
    *("celery_naive", "celery_tuned", "celery_threads", "dramatiq", "huey"),
    *("taskiq_stream", "saq", "arq_tuned", "bullmq", "bullmq_mongoose"),
)
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Amounts:
    """How many of each; `scale` shrinks them together."""

    contacts: int = 20_000
    loop: int = 2000
    bulk: int = 20_000
    naive: int = 2000
    interactive: int = 3000
    stream: int = 20_000
    peer: int = 2000
    slow_rate: int = 200
    """Requests of a measurement of latency at 20 a second."""
    fast_rate: int = 2000
    """At 200 a second."""
    busy: int = 50_000
    """Conversations of the backfill that interactive requests compete with."""
    memory: int = 100_000
    longest: int = 10_000
    """Messages of the longest single conversation."""

    def scaled(self, scale: float) -> "Amounts":
        """At least 20 of each."""
        return replace(self, **{each.name: max(20, round(scale * getattr(self, each.name))) for each in fields(self)})


@dataclass(frozen=True)
class Options:
    """The command line, read."""

    rounds: int
    only: tuple[str, ...]
    amounts: Amounts
    messages: int
    by_conversation: bool
    peers: Path | None
    contenders: tuple[str, ...]
    latency_contenders: tuple[str, ...]
    patience: float
    results: Path

    @property
    def paths(self) -> list[str]:
        """Those of our paths whose rates are wanted."""
        return [each for each in PATHS if each in self.only]


def _names(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(filter(None, text.split(",")))
        if unknown := [each for each in names if each not in allowed]:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(allowed)}")
        return names

    return read


def read(arguments: Sequence[str] | None = None) -> Options:
    """Ends the process with 2 and a sentence where an argument is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and write a table and a plot.")
    parser.add_argument("--rounds", type=int, default=5, help="of the rates and latencies, interleaved; default 5")
    parser.add_argument(
        "--only", type=_names(SECTIONS), default=SECTIONS, help=f"comma-separated: {','.join(SECTIONS)}"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of all amounts of work, to try it out; default 1")
    parser.add_argument("--contacts", type=int, help=f"each with a conversation; default {Amounts.contacts}")
    parser.add_argument("--messages", type=int, default=20, help="of each conversation; default 20")
    parser.add_argument("--by-conversation", action="store_true", help="requests name the conversation too")
    parser.add_argument("--peers", type=Path, help="folder of other job systems, such as ../shared/peers")
    parser.add_argument("--contenders", type=_names(CONTENDERS), default=CONTENDERS, help="of the peers, default all")
    parser.add_argument(
        "--latency-contenders",
        type=_names(CONTENDERS),
        default=("huey", "celery_tuned", "taskiq_stream"),
        help="of the peers, in latency mode; default the three fastest",
    )
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine; default 20")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the results are written to")
    asked = parser.parse_args(arguments)
    if asked.rounds < 1 or asked.messages < 1 or asked.scale <= 0:
        parser.error("--rounds, --messages and --scale must be positive")
    if asked.peers is not None and not (asked.peers / "run").is_file():
        parser.error(f"--peers {asked.peers}: there is no program `run` in it")
    amounts = Amounts() if asked.contacts is None else replace(Amounts(), contacts=asked.contacts)
    return Options(
        rounds=asked.rounds,
        only=asked.only,
        amounts=amounts.scaled(asked.scale),
        messages=asked.messages,
        by_conversation=asked.by_conversation,
        peers=asked.peers.resolve() if asked.peers else None,
        contenders=asked.contenders,
        latency_contenders=asked.latency_contenders,
        patience=asked.patience,
        results=asked.results,
    )
