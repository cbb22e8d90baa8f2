"""The `snapshots` command. Each subcommand is imported only when it is called, so that `--help` is fast."""

from worker.cli import interrupts

with interrupts.exit_at_once():
    import click

    from worker.cli.group import Lazy, LazyGroup

_COMMANDS = {
    "demo": Lazy("worker.cli.demo:demo", "Run the whole pipeline on sample conversations."),
    "up": Lazy("worker.cli.stack:up", "Run the whole stack on this machine until Ctrl-C."),
    "api": Lazy("worker.cli.api:api", "Serve the HTTP API.", logs=True),
    "celery": Lazy("worker.cli.celery_command:celery", "Run Celery's worker, beat or Flower.", logs=True),
    "import": Lazy("worker.cli.importing:import_command", "Import conversations from JSON Lines files."),
    "request": Lazy("worker.cli.requesting:request", "Request one snapshot, or one of every conversation."),
    "backfill": Lazy("worker.cli.backfill:backfill", "Request a snapshot of every conversation; list and cancel."),
    "requests": Lazy("worker.cli.requests:requests", "List, show and redrive requests."),
    "export": Lazy("worker.cli.exporting:export", "Export snapshots as training data."),
    "exports": Lazy("worker.cli.exports:exports", "List, show, verify, rebuild and cancel exports."),
    "show": Lazy("worker.cli.snapshots:show", "Show a snapshot."),
    "stats": Lazy("worker.cli.stats:stats", "Count what an organization's snapshots contain."),
    "delete": Lazy("worker.cli.snapshots:delete", "Delete a snapshot."),
    "erase": Lazy("worker.cli.erasing:erase", "Erase a contact; check the receipt."),
    "hold": Lazy("worker.cli.holds:hold", "Set, list and lift legal holds, which prevent an erasure."),
    "events": Lazy("worker.cli.events:events", "Show or follow completion events."),
    "login": Lazy("worker.cli.login:login", "Print a link that logs a browser in to the operations page, once."),
    "keys": Lazy("worker.cli.keys:keys", "Create, list and revoke API keys for programs."),
    "listen": Lazy(
        "worker.cli.listening:listen", "Listen to the intake stream and to closed conversations.", logs=True
    ),
    "policy": Lazy("worker.cli.policies:policy", "Configure automatic snapshots, and what is redacted."),
    "redact": Lazy("worker.cli.redacting:redact", "Show what redaction would change."),
    "status": Lazy("worker.cli.status:status", "Show outcomes, queue lengths and waiting times."),
    "inspect": Lazy(
        "worker.cli.inspecting:inspect", "Check whether the platform's documents fit, and suggest settings."
    ),
    "doctor": Lazy("worker.cli.doctor:doctor", "Diagnose an installation and suggest fixes."),
}


@click.group(
    cls=LazyGroup,
    commands_by_name=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.version_option(package_name="training-snapshots", message="snapshots %(version)s")
def main() -> None:
    """Create training snapshots of conversations in the background. Each accepted request gets exactly one outcome.

    \b
    Example:
        snapshots demo
        snapshots request --organization ID --contact ID --wait
        snapshots status

    SNAPSHOTS_MONGO_URL and SNAPSHOTS_REDIS_URL name the servers. Exit codes: 0 success, 1 failure, 2 wrong usage or
    settings.
    """
