"""The command `snapshots`. What a command needs is imported when it is called, so that help is quick."""

import click

from worker.cli.group import Lazy, LazyGroup

_COMMANDS = {
    "demo": Lazy("worker.cli.demo:demo", "Show it all at work on sample conversations."),
    "up": Lazy("worker.cli.stack:up", "Run the whole system until Ctrl-C."),
    "api": Lazy("worker.cli.api:api", "Serve HTTP."),
    "import": Lazy("worker.cli.importing:import_command", "Import conversations from JSON Lines."),
    "request": Lazy("worker.cli.requesting:request", "Request a snapshot, or one of every conversation."),
    "requests": Lazy("worker.cli.requests:requests", "List, show and redrive requests."),
    "show": Lazy("worker.cli.documents:show", "Show a snapshot."),
    "delete": Lazy("worker.cli.documents:delete", "Delete a snapshot."),
    "events": Lazy("worker.cli.events:events", "Show completion events, and follow them."),
    "keys": Lazy("worker.cli.keys:keys", "Create, list and revoke integration keys of the HTTP surface."),
    "listen": Lazy("worker.cli.listening:listen", "Take in what producers add to the Redis stream, and closings."),
    "policy": Lazy("worker.cli.policies:policy", "Say which closings make a snapshot by themselves."),
    "status": Lazy("worker.cli.status:status", "Count outcomes, queues and what waits."),
    "doctor": Lazy("worker.cli.doctor:doctor", "Find what is wrong, and say what to do about it."),
}


@click.group(
    cls=LazyGroup,
    commands_by_name=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.version_option(package_name="training-snapshots", message="snapshots %(version)s")
def main() -> None:
    """Training snapshots of conversations, made in the background: nothing accepted is lost or done twice.

    \b
    Example:
        snapshots demo
        snapshots request --organization ID --contact ID --wait
        snapshots status

    Exit codes: 0, 1 failed, 2 wrong use. The servers are those of SNAPSHOTS_MONGO_URL and SNAPSHOTS_REDIS_URL.
    """
