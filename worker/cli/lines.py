"""Prints lines and formats times for the commands."""

import shutil
import sys
import textwrap
from datetime import datetime

import click


def echo(text: str, colour: str | None = None, *, err: bool = False) -> None:
    """Print a text. On a terminal, lines that are too long break between words; ids and addresses stay whole."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None and stream.isatty():  # it is None if the shell has closed it
        width = shutil.get_terminal_size().columns
        text = "\n".join(
            textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) if len(line) > width else line
            for line in text.splitlines()
        )
    click.echo(click.style(text, fg=colour) if colour else text, err=err)


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 request`, `2 requests`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def utc(moment: datetime | None) -> str:
    """Format a time for a column or a sentence that says `UTC`."""
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""
