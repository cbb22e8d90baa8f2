"""`python tests/chaos/hosts`: runs everything on several hosts, disturbs the network, and checks every guarantee.

Exits with 1 if a guarantee is broken or the run proves too little, and with 77 if hosts cannot be made here: they are
network namespaces, which need Linux and root.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

SKIPPED = 77
"""The exit status that test harnesses read as skipped."""


def main() -> int:
    sys.path[0] = str(Path(__file__).parents[2])
    from chaos.hosts.network import Unavailable
    from chaos.hosts.plan import KINDS, Wanted, run

    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often each fault of the network comes (default: 1)")
    parser.add_argument("--failovers", type=int, default=2, help="failovers of Redis (default: %(default)s)")
    parser.add_argument("--step-downs", type=int, default=1, help="step-downs of MongoDB (default: %(default)s)")
    parser.add_argument(
        "--fault-seconds", type=float, default=15.0, help="duration of each fault of the network (default: %(default)s)"
    )
    parser.add_argument("--requests", type=int, default=0, help="number of requests (default: 20 a second)")
    parser.add_argument("--seed", type=int, default=1, help="seed of faults and requests (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=sorted(KINDS), help="only these faults, each as often as named")
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps logs, requests and events")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    wanted = Wanted(
        given.rounds, given.failovers, given.step_downs, given.fault_seconds, given.requests, given.seed, given.only
    )
    try:
        result = run(wanted, given.keep)
    except Unavailable as error:
        print(f"SKIPPED: make cluster {error}", file=sys.stderr)
        return SKIPPED
    except KeyboardInterrupt:
        print("Interrupted. All hosts and processes were removed.", file=sys.stderr)
        return 130
    return result.conclude()


def _end(_: int, __: FrameType | None) -> None:
    """Ends the run, so that everything is removed; further signals are ignored meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
