import subprocess
import sys

import pytest

_HALF_BUILT = """
import signal
from worker.cli import interrupts

class HalfBuilt:
    def __init__(self):
        signal.raise_signal(signal.SIGINT)
        self.name = ""

    def __del__(self):
        {in_del}

interrupts.install()
{before}
try:
    try:
        HalfBuilt()
    except KeyboardInterrupt:
        print("interrupted")
    {after}
except KeyboardInterrupt:
    print("interrupted again")
"""
_INTERRUPT = "signal.raise_signal(signal.SIGINT)"
_INTERRUPT_IN_HOOK = """
set_timer = signal.setitimer

def interrupt_first(*args):
    signal.setitimer = set_timer
    signal.raise_signal(signal.SIGINT)
    return set_timer(*args)

signal.setitimer = interrupt_first
"""


def _run(in_del: str, after: str = "", before: str = "") -> subprocess.CompletedProcess[str]:
    script = "import time\n" + _HALF_BUILT.format(in_del=in_del, after=after, before=before)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)


def test_ctrl_c_before_a_command_begins_ends_it_at_once_with_one_sentence() -> None:
    script = (
        "import signal\nfrom worker.cli import interrupts\nwith interrupts.exit_at_once():\n"
        "    signal.raise_signal(signal.SIGINT)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (ran.returncode, ran.stderr) == (130, "Interrupted. Nothing was done.\n")


def test_ctrl_c_while_the_command_line_is_imported_prints_no_traceback() -> None:
    script = (
        "import signal, sys\nclass Interrupting:\n    def find_spec(self, name, *_):\n"
        "        if name == 'click':\n            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\nimport worker.cli"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (ran.returncode, ran.stderr) == (130, "Interrupted. Nothing was done.\n")


def test_an_object_that_ctrl_c_left_half_built_prints_no_traceback() -> None:
    ran = _run("print(self.name)")
    assert (ran.stdout, ran.stderr) == ("interrupted\n", "")


@pytest.mark.parametrize("before", ["", _INTERRUPT_IN_HOOK])
def test_a_ctrl_c_inside_a_destructor_is_not_lost(before: str) -> None:
    ran = _run(_INTERRUPT, "time.sleep(30)", before)
    assert (ran.stdout.splitlines()[-1:], ran.stderr) == (["interrupted again"], "")


def test_a_repeated_ctrl_c_does_not_disturb_the_exit() -> None:
    ran = _run(_INTERRUPT, "interrupts.ignore(); time.sleep(0.1)")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "interrupted\n", "")
