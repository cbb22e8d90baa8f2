"""`snapshots up`: runs the whole stack in the foreground."""

import json
import os
import shlex
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import click
from bson import ObjectId
from rich.console import Console
from rich.markup import escape

from worker.api.tokens import Caller
from worker.api.verification_keys import VerificationKeys
from worker.cli.shared import program
from worker.cli.starting import StopSignals, show_progress
from worker.erasure import log as erasure_log
from worker.erasure.receipt import check_signing_key
from worker.errors import InvalidSettings, TransientError
from worker.flower.login import login_error, port_error
from worker.local.binaries import explain
from worker.local.processes import Child
from worker.local.shell_variables import SAMPLES, forget_own_servers, write_shell_variables
from worker.local.stack import Stack, stack
from worker.log import hide_passwords
from worker.operations.data.login_links import LoginLinks
from worker.settings import Settings, load, read_secret
from worker.stores.connections import Connections


@click.command()
@click.option("--data", type=click.Path(file_okay=False), help="Data directory. Default: a temporary one.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when everything is ready.")
def up(data: str | None, as_json: bool) -> None:
    """Run the whole stack until Ctrl-C: servers, workers, beat, listener, API and Flower.

    Starts MongoDB and Redis unless SNAPSHOTS_MONGO_URL or SNAPSHOTS_REDIS_URL is set. A process that exits is
    restarted. The file `env` in the data directory sets the addresses in another terminal.

    \b
    Example:
        snapshots up --data ./data
        snapshots up --json | head -1 | jq .api
    """
    if data == "":  # most often a variable that is not set; as a path it would be the current directory
        raise click.BadParameter("should name a directory.", param_hint="--data")
    os.umask(0o077)  # the data folder holds conversations
    console = Console(stderr=True)
    signals = StopSignals(console.print)

    def died(child: Child, code: int | None, delay: float) -> None:
        if not signals.stop.is_set():
            # A server that cannot start, for example because of a damaged file, reports it only in its output.
            found = explain(child.output()) or (child.last_lines() if code and code > 0 else None)
            reason = escape(f": {found}") if found else ""
            console.print(f"[yellow]{child.name} exited ({code}); restarting in {delay:g} s[/]{reason}", soft_wrap=True)

    with ExitStack() as opened:
        with show_progress(console, signals) as show:
            if data:
                forget_own_servers(Path(data))
            own = load()
            _check_files_and_logins(own)
            running = opened.enter_context(
                stack(own, Path(data) if data else None, died, lambda name: show(f"starting {name}"))
            )
            variables = write_shell_variables(running.folder, running.settings, running.api)
            printed = json.dumps(_addresses(running)) if as_json else _summary(running, variables)
        signals.defer()
        click.echo(printed)
        running.supervisor.watch(signals.stop)


def _check_files_and_logins(settings: Settings) -> None:
    """Check what would otherwise end a process after others have started. Raises InvalidSettings, OSError."""
    Path.cwd()  # if it was deleted, mongod would end without naming it
    check_signing_key(settings)
    with suppress(TransientError):  # a bucket that does not answer now
        erasure_log.check(settings)
    if settings.model_fields_set & {"jwt_secret", "jwt_public_key", "jwt_jwks"}:
        VerificationKeys(settings)
    basic = os.environ.get("FLOWER_BASIC_AUTH") or read_secret("FLOWER_BASIC_AUTH")
    if basic and (error := login_error(basic.split(","), "", None, {})):
        raise InvalidSettings(error)
    if any(name.startswith("FLOWER_") for name in os.environ):
        from worker.flower.variables import require_valid  # takes half a second

        require_valid()
    address, port = os.environ.get("FLOWER_ADDRESS") or "127.0.0.1", os.environ.get("FLOWER_PORT")
    if port and (error := port_error(address, int(port))):
        raise InvalidSettings(f"flower: {error}")


def _addresses(running: Stack) -> dict[str, object]:
    own = running.settings
    servers = {"redis": own.redis_url, "mongo": own.mongo_url, "database": own.mongo_database}
    api = running.api
    login = {"api": api.url, "token": api.token, "organization": str(api.organization)}
    return {"ready": True, **servers, **login, "flower": running.flower.url, "flowerLogin": running.flower.login}


def _summary(running: Stack, variables: Path) -> str:
    own, api = running.settings, running.api
    names = ", ".join(child.name for child in running.supervisor.children)
    command = program()
    is_ours = any(child.name == "mongod" for child in running.supervisor.children)
    is_for_samples = is_ours and api.example is None
    commands = _with_samples(command) if is_for_samples else _with_own_data(command, api.example is not None)
    return f"""\
running   {names}
redis     {hide_passwords(own.redis_url)}
mongo     {hide_passwords(own.mongo_url)}
database  {own.mongo_database}
api       {api.url}, documentation at {api.url}/docs
page      {api.url}{_login_link(running)}
          (logs a browser in, once; for another: {command} login)
flower    {running.flower.url}
          ({_flower_login(running)})
logs      {running.folder / "logs"}

In another terminal:
  . {shlex.quote(str(variables))}
{commands}

Ctrl-C stops everything."""


def _with_samples(command: str) -> str:
    return f"""\
  {command} import {shlex.quote(_shortest(SAMPLES))} \\
      --organization $ORGANIZATION_ID
  {command} backfill --organization $ORGANIZATION_ID
  {command} status
  curl -H "Authorization: Bearer $TOKEN" $API_URL/api/training/snapshots"""


def _with_own_data(command: str, has_example: bool) -> str:
    """Return commands for the database of a platform, which the sample conversations would spoil."""
    names = ("$ORGANIZATION_ID", "$CONTACT_ID", "$CONVERSATION_ID") if has_example else ("ID", "ID", "ID")
    organization, contact, conversation = names
    return f"""\
  {command} inspect
  {command} request --organization {organization} --contact {contact} --conversation {conversation} --wait
  {command} show ID
  {command} backfill --organization {organization} --dry-run
  {command} status"""


def _flower_login(running: Stack) -> str:
    if running.flower.login is None:
        return "its login is set by a FLOWER_ variable"
    name, _, password = running.flower.login.partition(":")
    return f"log in as {name}, password {password}"


def _login_link(running: Stack) -> str:
    with closing(Connections(running.settings)) as connections:
        operator = Caller(running.api.organization, ObjectId(), "ADMIN", operator=True)
        return LoginLinks(connections).create(operator).path


def _shortest(path: Path) -> str:
    """Return the path relative to the current directory if it is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
