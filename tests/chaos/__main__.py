"""`python tests/chaos [--requests N] [--seconds S] [--seed N]`: injects faults under load and checks every guarantee.

Exits with 1 if a guarantee is broken, or if the run proves too little.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    sys.path[0] = str(Path(__file__).parent.parent)
    from chaos.run import Options, run
    from chaos.schedule import KINDS

    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, help="number of requests (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="duration of requests and faults (default: by their number)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of faults and requests (default: %(default)s)")
    parser.add_argument("--sentinel", action="store_true", help="Redis with two replicas and three Sentinels")
    parser.add_argument("--only", nargs="*", choices=sorted(KINDS), help="only these faults, each as often as named")
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps logs, requests and events")
    given = parser.parse_args()
    options = Options(
        requests=given.requests,
        seconds=given.seconds,
        seed=given.seed,
        sentinel=given.sentinel,
        faults=None if given.only is None else {kind: given.only.count(kind) for kind in given.only},
        keep=given.keep,
    )
    return run(options).conclude()


if __name__ == "__main__":
    sys.exit(main())
