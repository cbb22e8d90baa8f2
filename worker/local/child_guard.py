"""Runs as a script of its own, `python -I -S child_guard.py launch|reap`: what lets no child outlive its parent.

`launch` becomes the child: it asks the kernel to be killed with its parent (Linux), reads from a pipe
what to run, and only then executes it. A parent that died before it wrote leaves nothing running. This
is a program and not subprocess's `preexec_fn`, which may deadlock in a parent that has threads
(https://docs.python.org/3/library/subprocess.html).

`reap` outlives the parent for a moment: it reads `+<group>` and `-<group>` from a pipe and, when the
parent is gone and the pipe ends, kills every group that is left. That reaches the grandchildren too
(Celery's pool processes do not notice that their parent was killed), and works where the kernel has no
prctl, on macOS.

Nothing but the standard library is imported: the script must start within milliseconds.
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launch(pipe: int, parent: int) -> None:
    """Become the program that the pipe names: one JSON object `{argv, env, die_with_parent}` and a newline."""
    with os.fdopen(pipe, "rb") as file:
        order = file.read()
    if not order.endswith(b"\n"):
        sys.exit(0)
    what = json.loads(order)
    if what["die_with_parent"] and sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        # The parent died before prctl, which then has no one to watch.
        sys.exit(0)
    os.environ.update(what["env"])
    try:
        os.execvp(what["argv"][0], what["argv"])
    except OSError as error:
        print(f"{what['argv'][0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


def reap() -> None:
    """Kill the process groups that standard input named and did not take back, once it ends."""
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):
            group = int(line[1:])
            groups.add(group) if line[:1] == b"+" else groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # Ended by itself; macOS says EPERM when only zombies are left in the group.
            continue


if __name__ == "__main__":
    if sys.argv[1] == "launch":
        launch(pipe=int(sys.argv[2]), parent=int(sys.argv[3]))
    else:
        reap()
