"""The options that say what to redact."""

from collections.abc import Callable, Sequence

import click

from worker.cli.options import Command
from worker.redaction.kinds import KINDS, check_kinds, check_regions


def _listed(check: Callable[[Sequence[str]], list[str]]) -> Callable[..., list[str] | None]:
    """Return a callback that reads `a,b`. It raises BadParameter, which says what is allowed."""

    def read(context: click.Context, parameter: click.Parameter, given: str | None) -> list[str] | None:
        if given is None:
            return None
        try:
            values = check([each.strip() for each in given.split(",") if each.strip()])
        except ValueError as error:
            raise click.BadParameter(f"It {error}.", context, parameter) from None
        if not values:
            raise click.BadParameter("Give at least one value.", context, parameter)
        return values

    return read


def _option(
    name: str, metavar: str, check: Callable[[Sequence[str]], list[str]], text: str
) -> Callable[[Command], Command]:
    return click.option(name, metavar=metavar, callback=_listed(check), help=text)


redact_option = _option(
    "--redact", "KINDS", check_kinds, f"Kinds of personal data to redact, separated by commas: {', '.join(KINDS)}."
)
redact_regions_option = _option(
    "--redact-regions", "REGIONS", check_regions, "Regions of phone numbers and national ids, such as DE,AT."
)
