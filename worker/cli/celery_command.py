"""`snapshots celery`: Celery's own commands with the app of this installation."""

import click


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
    from celery.bin.celery import celery as run_celery

    import worker.celery
    from worker.celery_support.layout import flower_config

    app = worker.celery.__name__
    if arguments[0] == "flower" and not any(each.startswith("--conf") for each in arguments):
        arguments = (*arguments, f"--conf={flower_config()}")
    run_celery.main(["-A", app, *arguments], prog_name="snapshots celery", auto_envvar_prefix="CELERY")
