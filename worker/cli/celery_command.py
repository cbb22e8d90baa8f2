"""`snapshots celery`: Celery's own commands with the app of this installation."""

from traceback import extract_tb

import click

from worker.errors import SnapshotError
from worker.settings import settings


class CeleryFailed(SnapshotError):
    """A command of Celery or Flower ended with an error, most often because of a wrong option or variable."""

    code = "celery_failed"


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARGUMENTS]...")
def celery(arguments: tuple[str, ...]) -> None:
    """Run a Celery command, such as worker, beat, inspect or flower, in any directory.

    It is `celery -A worker`, except that it imports nothing from the current directory, where another project may have
    modules of the same names, and that Flower reads this project's flowerconfig.py unless --conf names another file.

    \b
    Example:
        snapshots celery worker -P prefork -c 1 -n worker1@%h
        snapshots celery beat --schedule /var/lib/snapshots/beat
        snapshots celery flower
        snapshots celery inspect ping
    """
    is_debugging = settings().log_level == "DEBUG"  # read before Celery, which would print a traceback of a fault
    from celery.bin.celery import celery as run_celery

    import worker.celery
    from worker.celery_support.layout import flower_config

    app = worker.celery.__name__
    if arguments[0] == "flower":
        from worker.flower.variables import require_valid  # takes half a second

        require_valid()
    if arguments[0] == "flower" and not any(each.startswith("--conf") for each in arguments):
        arguments = (*arguments, f"--conf={flower_config()}")
    try:
        run_celery.main(["-A", app, *arguments], prog_name="snapshots celery", auto_envvar_prefix="CELERY")
    except Exception as error:
        if is_debugging:
            raise
        where = extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        raise CeleryFailed(f"{reason}. SNAPSHOTS_LOG_LEVEL=DEBUG shows the traceback.") from error
