"""Children against the real kernel: none outlives its parent, and what dies is started again."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.parents import alive, guards_of, kill_all, parent, wait_until_gone
from support.waiting import allowed, eventually
from worker.local.processes import Child, ChildFailed
from worker.local.supervisor import Supervisor

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def sleeper(name: str = "sleeper", **options: object) -> Child:
    return Child(name, ["sleep", "600"], **options)  # type: ignore[arg-type]


@contextmanager
def watched(supervisor: Supervisor) -> Iterator[None]:
    """The supervisor watches in a thread, which ends with the block."""
    over = threading.Event()
    thread = threading.Thread(target=supervisor.watch, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(allowed(5))
    assert not thread.is_alive()


def runs_sleep(child: Child) -> bool:
    return psutil.Process(child.pid).name() == "sleep"


def stubborn(log: Path) -> Child:
    child = Child(
        "stubborn", [sys.executable, "-c", STUBBORN], log=log, ready=lambda: "up" in child.output(), grace=0.2
    )
    return child


@pytest.mark.parametrize("mode", ["kernel", "guard-only"])
def test_killed_parent_leaves_neither_children_nor_grandchildren(tmp_path: Path, mode: str) -> None:
    with parent("sleep", str(tmp_path / "log"), mode) as (process, said):
        assert len(alive(said["pids"])) == 2
        guards = guards_of(process.pid)
        assert len(guards) == 1
        process.kill()
        wait_until_gone([*said["pids"], *guards])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
def test_killed_parent_and_killed_guard_leave_no_child(tmp_path: Path) -> None:
    with parent("sleep", str(tmp_path / "log")) as (process, said):
        kill_all(guards_of(process.pid))
        process.kill()
        wait_until_gone(said["pids"][:1])


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda by: by.name)
def test_signalled_parent_leaves_no_child(tmp_path: Path, by: signal.Signals) -> None:
    with parent("sleep", str(tmp_path / "log")) as (process, said):
        process.send_signal(by)
        process.wait(allowed(10))
        wait_until_gone(said["pids"])


def test_child_of_a_thread_outlives_the_thread() -> None:
    child = sleeper()
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    try:
        eventually(lambda: runs_sleep(child))
        assert child.poll() is None
    finally:
        child.stop()


def test_child_is_not_in_the_parents_process_group() -> None:
    child = sleeper()
    child.start()
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    finally:
        child.stop()


def test_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = stubborn(tmp_path / "log")
    child.start()
    child.wait_until_ready(allowed(10))
    assert child.stop() == -signal.SIGKILL
    assert not child.running


def test_stopped_child_leaves_no_process_and_no_guard() -> None:
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    child = sleeper()
    child.start()
    assert child.stop() == -signal.SIGTERM
    assert {each.pid for each in psutil.Process().children(recursive=True)} <= before


def test_child_gets_its_environment_beside_the_parents(tmp_path: Path) -> None:
    child = Child("env", ["sh", "-c", "echo $COLOUR:$PATH"], {"COLOUR": "blue"}, tmp_path / "log")
    child.start()
    assert child.wait(allowed(10)) == 0
    assert child.output() == f"blue:{os.environ['PATH']}\n"


def test_missing_program_is_named() -> None:
    with pytest.raises(ChildFailed, match="program /no/such/program not found"):
        Child("x", ["/no/such/program"]).start()


def test_child_that_ends_before_it_is_ready_says_its_last_words(tmp_path: Path) -> None:
    child = Child("broken", ["sh", "-c", "echo no disk; exit 3"], log=tmp_path / "log", ready=lambda: False)
    child.start()
    with pytest.raises(ChildFailed, match="broken exited with code 3: no disk"):
        child.wait_until_ready(allowed(10))


def test_only_the_reason_of_a_traceback_that_a_child_logs_as_json_is_said(tmp_path: Path) -> None:
    logged = '{"event": "failed", "exception": "Traceback\\n  File x\\nPermissionError: /dev/shm"}'
    child = Child("broken", ["printf", "%s\n", logged], log=tmp_path / "log", ready=lambda: False)
    child.start()
    with pytest.raises(ChildFailed, match=r"broken exited with code 0: PermissionError: /dev/shm$"):
        child.wait_until_ready(allowed(10))


def test_only_the_error_message_of_a_child_is_said(tmp_path: Path) -> None:
    lines = "warnings.warn(\nError: no key.\n"
    child = Child("broken", ["printf", lines], log=tmp_path / "log", ready=lambda: False)
    child.start()
    with pytest.raises(ChildFailed, match=r"broken exited with code 0: Error: no key\.$"):
        child.wait_until_ready(allowed(10))


def test_full_disk_ends_the_wait_for_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 256, 1, 1, 256, 0, 0, 0, 255))
    child = sleeper(ready=lambda: False, log=tmp_path / "log")
    child.start()
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    try:
        with pytest.raises(ChildFailed, match="cannot start: the disk of its log is full: free space"):
            child.wait_until_ready(allowed(10))
    finally:
        child.stop()


def test_child_that_never_gets_ready_is_reported_in_time(tmp_path: Path) -> None:
    child = sleeper(ready=lambda: False, log=tmp_path / "log")
    child.start()
    try:
        with pytest.raises(ChildFailed, match=r"not ready within 0\.1 s"):
            child.wait_until_ready(0.1)
    finally:
        child.stop()


def test_supervisor_starts_a_dead_child_again_with_a_growing_delay() -> None:
    died: list[tuple[str, int | None, float]] = []
    child = sleeper()
    with Supervisor([child], lambda child, code, delay: died.append((child.name, code, delay))) as supervisor:
        supervisor.start()
        first = child.pid

        def started_again() -> bool:
            supervisor.restart_exited()
            return child.running

        for _ in range(2):
            child.kill()
            eventually(started_again)
        assert supervisor.restarts(child) == 2
        assert child.pid != first
    assert died == [("sleeper", -signal.SIGKILL, 0.5), ("sleeper", -signal.SIGKILL, 1.0)]
    assert not child.running


def test_supervisor_stops_in_reverse_order() -> None:
    stopped: list[str] = []

    class Noting(Child):
        def stop(self, grace: float | None = None) -> int | None:
            stopped.append(self.name)
            return super().stop(grace)

    with Supervisor([Noting("first", ["sleep", "600"]), Noting("second", ["sleep", "600"])]) as supervisor:
        supervisor.start()
    assert stopped == ["second", "first"]


def test_supervisor_outlives_a_start_that_the_system_refuses(tmp_path: Path) -> None:
    """As no more processes, or a log that cannot be opened."""
    child = sleeper(log=tmp_path / "logs" / "sleeper.log")
    with Supervisor([child]) as supervisor:
        supervisor.start()
        child.log = tmp_path / "logs" / "sleeper.log" / "no folder"
        child.kill()
        with watched(supervisor):
            eventually(lambda: supervisor.restarts(child) >= 1)
            assert not child.running
            child.log = tmp_path / "logs" / "sleeper.log"
            eventually(lambda: child.running)


def test_supervisor_watches_until_told_to_end() -> None:
    child = sleeper()
    with Supervisor([child]) as supervisor:
        supervisor.start()
        first = child.pid
        with watched(supervisor):
            child.kill()
            eventually(lambda: child.running and child.pid != first)
        assert child.running
