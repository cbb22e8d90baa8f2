"""Options that several commands share, and the types of option values."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
from bson import ObjectId

from worker.domain.ledger_entry import STATES
from worker.domain.validation import check_text

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=36_500)

Command = TypeVar("Command", bound=Callable[..., Any])


class ObjectIdType(click.ParamType[ObjectId]):
    """The type of options with an id: an ObjectId of 24 hex digits."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> ObjectId:
        if isinstance(value, ObjectId):
            return value
        if not isinstance(value, str) or len(value) != 24 or not ObjectId.is_valid(value):
            self.fail(f"{_quote(value)} is not an id of 24 hex digits, such as 6a1b2c3d4e5f60718293a4b5.", param, ctx)
        return ObjectId(value)


class TextType(click.ParamType[str]):
    """Valid Unicode without control characters. A shell passes any bytes; the database accepts only text."""

    name = "text"

    def __init__(self, allowed: str = "") -> None:
        """`allowed`: control characters that are allowed, such as LINE_BREAKS."""
        self._allowed = allowed

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_text(str(value), self._allowed)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class SinceType(click.ParamType["datetime | timedelta"]):
    """An ISO 8601 time (UTC if it has no offset), or a duration: before now, or for --until after now."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        try:
            return _read_since(str(value))
        except (ValueError, OverflowError):
            expected = "a time such as 2026-05-18T14:30:00Z or a duration such as 30m, 2h or 7d"
            self.fail(f"{_quote(value)} is not {expected}.", param, ctx)


def _read_since(value: str) -> datetime | timedelta:
    if found := re.fullmatch(r"(\d{1,9})([smhd])", value, re.ASCII):
        ago = timedelta(**{_UNITS[found[2]]: int(found[1])})
        if ago > _LONGEST:
            raise ValueError(value)
        return ago
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def since_when(since: datetime | timedelta | None, now: datetime) -> datetime | None:
    """Return the time that a --since option stands for: itself, or the duration before `now`. None stays None."""
    return now - since if isinstance(since, timedelta) else since


def _quote(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option(
    "--yes", is_flag=True, help="Skip the confirmation prompt. Without a terminal, there is no prompt."
)
organization_option = click.option("--organization", type=ObjectIdType(), help="Only this organization.")


def filter_options(command: Command) -> Command:
    """Add --organization, --status, --code and --since."""
    options = (
        organization_option,
        click.option("--status", type=click.Choice(STATES), help="Only requests in this state."),
        click.option(
            "--code",
            type=TextType(),
            metavar="CODE",
            help="Only requests that failed with this code, such as contact_not_found.",
        ),
        click.option(
            "--since",
            type=SinceType(),
            metavar="TIME|AGO",
            help="Only requests accepted since this time, such as 2026-05-18T14:30:00Z, or within this duration, such "
            "as 2h. With --code or a finished --status: only requests finished since then.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
