"""Runs one of the product's programs with crash points and, optionally, a wrong clock or a deliberate bug.

    python -m chaos.launcher celery -A worker worker ...
    python -m chaos.launcher snapshots listen

CHAOS_POINTS is the folder of armed points, CHAOS_CLOCK the number of seconds by which the clock is ahead, CHAOS_BUG a
name in `bugs`, CHAOS_VISIBILITY the visibility timeout in seconds, CHAOS_POISON a tag whose requests kill a process.
"""

import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    if clock := os.environ.get("CHAOS_CLOCK"):
        from chaos import clocks

        clocks.shift(float(clock))
    from chaos import bugs, crashpoints, poison, taken

    points = Path(os.environ["CHAOS_POINTS"])
    crashpoints.install(points)
    taken.install(points)
    if bug := os.environ.get("CHAOS_BUG"):
        bugs.BUGS[bug]()
    if tag := os.environ.get("CHAOS_POISON"):
        poison.install(tag)
    if seconds := os.environ.get("CHAOS_VISIBILITY"):
        from worker.celery import app

        app.conf.broker_transport_options = {
            **app.conf.broker_transport_options,
            "visibility_timeout": float(seconds),
        }
    sys.argv = sys.argv[1:]
    if sys.argv[0] == "snapshots":
        from worker.cli import main as snapshots

        snapshots()
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
