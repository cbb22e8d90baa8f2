"""Ensures that no child outlives its parent. Run as a script: `python -I -S child_guard.py launch|reap`.

`launch` becomes the child: it asks the kernel to be killed with its parent (Linux), reads from a pipe
what to run, and only then executes it. A parent that died before it wrote leaves nothing running. This
is a program and not subprocess's `preexec_fn`, which may deadlock in a parent that has threads
(https://docs.python.org/3/library/subprocess.html).

`reap` outlives the parent briefly: it reads `+<target>` and `-<target>` from a pipe and, when the parent
is gone and the pipe ends, kills every process group and removes every folder that is left. That reaches
the grandchildren too (Celery's pool processes do not notice that their parent was killed), works where
the kernel has no prctl, on macOS, and leaves no temporary data behind.

Nothing but the standard library is imported: the script must start within milliseconds.
"""

import ctypes
import json
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
REMOVALS = 100
"""Attempts to remove a folder, 0.1 s apart."""


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
        # The parent died before prctl, so its death would go unnoticed.
        sys.exit(0)
    for name, value in what["env"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        os.execvp(what["argv"][0], what["argv"])
    except OSError as error:
        print(f"{what['argv'][0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


def reap() -> None:
    """When standard input ends, kill the process groups and remove the folders that it added and did not remove."""
    targets: set[bytes] = set()
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):
            target = line[1:-1]
            targets.add(target) if line[:1] == b"+" else targets.discard(target)
    for group in filter(bytes.isdigit, targets):
        try:
            os.killpg(int(group), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # The group has already exited; macOS reports EPERM if only zombies are left.
            continue
    for folder in targets:
        if not folder.isdigit():
            remove(os.fsdecode(folder))


def remove(folder: str) -> None:
    """Remove a folder, into which killed processes may write until they are gone.

    The file `lock` is removed last: a folder without it would never be recognized as stale (data_folder.py).
    """
    import shutil
    from pathlib import Path

    path = Path(folder)
    for _ in range(REMOVALS):
        try:
            for entry in path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name != "lock":
                    entry.unlink()
            if not [entry for entry in path.iterdir() if entry.name != "lock"]:
                shutil.rmtree(path, ignore_errors=True)
                return
        except FileNotFoundError:  # another process removes it, too
            if not path.exists():
                return
        time.sleep(0.1)


if __name__ == "__main__":
    if sys.argv[1] == "launch":
        launch(pipe=int(sys.argv[2]), parent=int(sys.argv[3]))
    else:
        reap()
