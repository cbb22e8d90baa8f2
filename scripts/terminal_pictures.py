"""Takes a picture of each command on a terminal of 80 x 24: `python scripts/terminal_pictures.py FOLDER [NAME]...`.

For each command FOLDER gets NAME-dark.svg and NAME-light.svg, with what tmux shows of it, and NAME-piped.txt, with what
a pipe gets. Names select commands; an import and requests, which most commands need, run in any case. Needs tmux.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
COLUMNS, ROWS = 80, 24
SAMPLES = ROOT / "worker" / "local" / "samples" / "conversations.jsonl"
THEMES = {"dark": SVG_EXPORT_THEME, "light": DEFAULT_TERMINAL_THEME}
UNKNOWN = "6a1b2c3d4e5f60718293a4b5"
ORGANIZATION = "--organization $ORGANIZATION_ID"
COMMANDS = {
    "help": "snapshots --help",
    "import": f"snapshots import {SAMPLES.relative_to(ROOT)} {ORGANIZATION}",
    "request": f"snapshots request {ORGANIZATION} --contact $CONTACT_ID --tag refund --wait",
    "request-all": f"snapshots request --all {ORGANIZATION}",
    "request-help": "snapshots request --help",
    "request-failed": f"snapshots request {ORGANIZATION} --contact {UNKNOWN}",
    "requests-list": "snapshots requests list --limit 5",
    "requests-failed": "snapshots requests list --status failed",
    "requests-show": "snapshots requests show $REQUEST_ID",
    "requests-redrive": "snapshots requests redrive --status failed --dry-run",
    "backfill": f"snapshots backfill {ORGANIZATION}",
    "backfill-dry-run": f"snapshots backfill {ORGANIZATION} --channel whatsapp --dry-run",
    "backfill-list": "snapshots backfill list",
    "show": "snapshots show $REQUEST_ID",
    "stats": f"snapshots stats {ORGANIZATION}",
    "export": f"snapshots export {ORGANIZATION} --format messages --split 90/5/5 -o $FOLDER/training",
    "export-help": "snapshots export --help",
    "exports-list": "snapshots exports list",
    "exports-verify": "snapshots exports verify $FOLDER/training",
    "exports-rebuild": "snapshots exports rebuild $FOLDER/training -o $FOLDER/again",
    "events": "snapshots events --count 3",
    "status": "snapshots status",
    "doctor": "snapshots doctor",
    "policy-get": "snapshots policy get --organization $ORGANIZATION_ID",
    "policy-set": "snapshots policy set --organization $ORGANIZATION_ID --minimum-from-contact 1 --tag auto",
    "policy-list": "snapshots policy list",
    "keys-create": f"snapshots keys create {ORGANIZATION} --user $CONTACT_ID --name nightly",
    "keys-list": "snapshots keys list",
    "redact": "snapshots redact --dry-run --text 'Call +49 170 1234567' --redact email,phone",
    "hold-set": f"snapshots hold set {ORGANIZATION} --contact $CONTACT_ID --reason 'case 17' --until 90d",
    "hold-list": "snapshots hold list",
    "hold-lift": f"snapshots hold lift {ORGANIZATION} --contact $CONTACT_ID",
    "erase": f"snapshots erase {ORGANIZATION} --contact $CONTACT_ID --dry-run",
    "delete": f"snapshots delete $REQUEST_ID {ORGANIZATION} --yes",
    "inspect": "snapshots inspect",
    "login": "snapshots login",
    "celery": "snapshots celery inspect ping",
    "empty": f"snapshots exports list --organization {UNKNOWN}",
    "usage-error": "snapshots request --nope",
    "command-error": "snapshots requets",
    "id-error": f"snapshots request {ORGANIZATION} --contact 17",
    "time-error": "snapshots requests list --since yesterday",
    "split-error": f"snapshots export {ORGANIZATION} --format messages --split 90/5",
    "policy-error": f"snapshots policy set {ORGANIZATION} --keep-for good",
    "import-error": "snapshots import README.md",
    "not-found": f"snapshots requests show {UNKNOWN}",
    "no-colour": "env NO_COLOR=1 snapshots request --nope",
    "dumb": "env TERM=dumb snapshots request --nope",
    "settings-error": "env SNAPSHOTS_CHUNK_SIZE=many snapshots status",
    "unreachable": "env SNAPSHOTS_MONGO_URL='mongodb://127.0.0.1:1/?replicaSet=rs0' snapshots status",
}


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    if unknown := set(given.names) - set(COMMANDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; the names are {', '.join(COMMANDS)}")
    if shutil.which("tmux") is None:
        sys.exit("tmux is not installed")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))  # the stack is stopped on the way out
    given.folder.mkdir(parents=True, exist_ok=True)
    wanted = {"import", "request-all", "requests-failed", *given.names} if given.names else set(COMMANDS)
    with tempfile.TemporaryDirectory() as data, stack(Path(data)) as (variables, summary):
        variables["FOLDER"] = data
        draw("up", summary, given.folder)
        for name, command in ((name, each) for name, each in COMMANDS.items() if name in wanted):
            draw(name, f"$ {command}\n{on_terminal(command, variables)}", given.folder)
            (given.folder / f"{name}-piped.txt").write_text(piped(command, variables))
            if name == "requests-failed":
                listed = json.loads(piped("snapshots requests list --limit 1 --json", variables))
                variables["REQUEST_ID"] = listed["requests"][0]["_id"]
            print(name)


@contextmanager
def stack(data: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Run `snapshots up` on a terminal; the values are its variables for a shell and what it shows."""
    with tmux(f"snapshots up --data {data}", {}) as session:
        try:
            wait_for(lambda: "Ctrl-C stops everything" in session.text(), 120)
            lines = [shlex.split(line)[1] for line in (data / "env").read_text().splitlines()]
            yield dict(line.split("=", maxsplit=1) for line in lines), f"$ snapshots up --data {data}\n{session.text()}"
        finally:
            session.press("C-c")
            wait_for(session.has_ended, 60)


class Session:
    """A tmux session with one command."""

    def __init__(self, socket: str) -> None:
        self._tmux = ["tmux", "-L", socket]

    def start(self, command: str, environment: Mapping[str, str]) -> None:
        argv = [*self._tmux, "-f", "/dev/null", "new-session", "-d", "-s", "s", "-x", str(COLUMNS), "-y", str(ROWS)]
        whole = {name: value for name, value in os.environ.items() if not name.startswith(("SNAPSHOTS_", "TMUX"))}
        whole |= {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm-256color", **environment}
        options = ["set-option", "-g", "remain-on-exit", "on", ";", "set-option", "-g", "status", "off", ";"]
        subprocess.run([*argv[:5], *options, *argv[5:], command], env=whole, cwd=ROOT, check=True)

    def text(self) -> str:
        return self._ask("capture-pane", "-p", "-e", "-S", "-", "-t", "s").rstrip()

    def has_ended(self) -> bool:
        return self._ask("display-message", "-p", "-t", "s", "#{pane_dead}").strip() == "1"

    def press(self, key: str) -> None:
        self._ask("send-keys", "-t", "s", key)

    def _ask(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, check=True).stdout

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


@contextmanager
def tmux(command: str, environment: Mapping[str, str]) -> Iterator[Session]:
    """Run a command in a tmux server of its own."""
    session = Session(f"pictures-{os.getpid()}-{time.monotonic_ns()}")
    try:
        session.start(command, environment)
        yield session
    finally:
        session.end()


def on_terminal(command: str, variables: Mapping[str, str]) -> str:
    """Return what a terminal shows once the command has ended, with its colours."""
    with tmux(command, variables) as session:
        wait_for(session.has_ended, 120)
        return "\n".join(line for line in session.text().splitlines() if "Pane is dead" not in line).rstrip()


def piped(command: str, variables: Mapping[str, str]) -> str:
    """Return what a pipe gets."""
    own = {"PATH": f"{BIN}:{os.environ['PATH']}", **variables}
    argv = ["sh", "-c", f"{command} 2>&1 | cat"]
    return subprocess.run(argv, env=os.environ | own, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def draw(name: str, shown: str, folder: Path) -> None:
    """Write the pictures of what a terminal shows."""
    for theme, colours in THEMES.items():
        with Path(os.devnull).open("w") as nowhere:
            console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
            console.print(Text.from_ansi(f"{shown}\n"), overflow="fold")  # the last line would lack its underscores
        svg = console.export_svg(title=f"snapshots {name}".strip(), theme=colours, unique_id=f"{name}-{theme}")
        (folder / f"{name}-{theme}.svg").write_text(svg)


def wait_for(condition: Any, seconds: float) -> None:
    """Wait until the condition holds. Exits if it does not within `seconds`."""
    stop_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > stop_at:
            sys.exit("a command did not end in time")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
