"""The command line of the benchmarks, and how much work each part gets."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

SECTIONS = ("interactive", "celery", "stream", "backfill", "latency", "busy", "sizes", "memory")
"""Values of --only; the first four are compared with the references, round by round."""
PATHS = SECTIONS[:4]
CONTENDERS = (
    *("celery_naive", "celery_tuned", "celery_threads", "dramatiq", "huey"),
    *("taskiq_stream", "saq", "arq_tuned", "bullmq", "bullmq_mongoose"),
)
DURABLE = "procrastinate"
"""The peer whose jobs are as durable as ours; it needs PostgreSQL, whose address the variable PEERS_POSTGRES has."""
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Amounts:
    """Amounts of work; `scale` multiplies all of them."""

    contacts: int = 20_000
    loop: int = 2000
    bulk: int = 20_000
    naive: int = 2000
    interactive: int = 3000
    celery: int = 5000
    stream: int = 20_000
    peer: int = 2000
    slow_rate: int = 200
    """Requests of a latency measurement at 20 a second."""
    fast_rate: int = 2000
    """Requests of a latency measurement at 200 a second."""
    busy: int = 50_000
    """Conversations of the backfill with which interactive requests compete."""
    memory: int = 100_000
    longest: int = 10_000
    """Messages of the longest single conversation."""

    def scaled(self, scale: float) -> "Amounts":
        """Multiply all amounts, to at least 20."""
        return replace(self, **{each.name: max(20, round(scale * getattr(self, each.name))) for each in fields(self)})


@dataclass(frozen=True)
class Options:
    """The parsed command line."""

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
        """Our paths whose rates are measured."""
        return [each for each in PATHS if each in self.only]


def _names(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(filter(None, text.split(",")))
        if unknown := [each for each in names if each not in allowed]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; allowed: {', '.join(allowed)}")
        return names

    return read


def read(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line; exit with 2 and a message if an argument is not valid."""
    peers = (*CONTENDERS, DURABLE) if os.environ.get("PEERS_POSTGRES") else CONTENDERS
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and write a table and a plot.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of rates and latencies (default: 5)")
    parser.add_argument(
        "--only", type=_names(SECTIONS), default=SECTIONS, help=f"comma-separated: {','.join(SECTIONS)}"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all amounts of work (default: 1)")
    parser.add_argument("--contacts", type=int, help=f"number of conversations (default: {Amounts.contacts})")
    parser.add_argument("--messages", type=int, default=20, help="messages of each conversation (default: 20)")
    parser.add_argument("--by-conversation", action="store_true", help="let requests name the conversation as well")
    parser.add_argument("--peers", type=Path, help="folder of other job systems, with a program `run`")
    parser.add_argument("--contenders", type=_names(peers), default=peers, help="peers (default: all)")
    parser.add_argument(
        "--latency-contenders",
        type=_names(peers),
        default=("huey", "celery_tuned", "taskiq_stream", *peers[len(CONTENDERS) :]),
        help="peers whose latency is measured (default: the three fastest, and the durable one)",
    )
    parser.add_argument("--patience", type=float, default=20.0, help="longest wait for a quiet machine (default: 20)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.messages < 1 or given.scale <= 0:
        parser.error("--rounds, --messages and --scale must be positive")
    if given.peers is not None and not (given.peers / "run").is_file():
        parser.error(f"--peers {given.peers}: the folder has no program `run`")
    amounts = Amounts() if given.contacts is None else replace(Amounts(), contacts=given.contacts)
    return Options(
        rounds=given.rounds,
        only=given.only,
        amounts=amounts.scaled(given.scale),
        messages=given.messages,
        by_conversation=given.by_conversation,
        peers=given.peers.resolve() if given.peers else None,
        contenders=given.contenders,
        latency_contenders=given.latency_contenders,
        patience=given.patience,
        results=given.results,
    )
