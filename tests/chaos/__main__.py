"""The proof: `python tests/chaos [--requests N] [--seconds S] [--seed N]`. Exits 1 on any violation of the promise."""

import argparse
import sys
from pathlib import Path


def main() -> int:
    sys.path[0] = str(Path(__file__).parent.parent)
    from chaos.run import Options, run
    from chaos.schedule import KINDS

    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.0, help="of requests and faults (default: by their number)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and requests (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=sorted(KINDS), help="one fault each of these kinds, no others")
    parser.add_argument("--keep", type=Path, help="an empty folder for logs, the driver's file and the events")
    given = parser.parse_args()
    options = Options(
        requests=given.requests,
        seconds=given.seconds,
        seed=given.seed,
        faults=None if given.only is None else {kind: given.only.count(kind) for kind in given.only},
        keep=given.keep,
    )
    result = run(options)
    for each in result.missed:
        print(f"not done: {each}")
    print(result.table)
    if not result.is_a_proof:
        print("NO PROOF: too few of the faults could be done")
    return 0 if result.verdict.holds and result.is_a_proof else 1


if __name__ == "__main__":
    sys.exit(main())
