"""Prints tables that are readable at any width."""

from collections.abc import Collection, Iterable, Sequence

from rich.table import Table

from worker.cli.shared import console

_INDENT = "  "
_UNLIMITED = 10_000


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str, numbers: Collection[str] = ()
) -> None:
    """Print a table, or if it is wider than the terminal, each row as lines of `name value`.

    `empty` is printed instead if there are no rows. `numbers` names the columns to align on the right.
    """
    table = Table()
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left")
    listed = list(rows)
    for row in listed:
        table.add_row(*row)
    out = console()
    if not listed:
        out.print(empty)
        return
    if out.measure(table, options=out.options.update(width=_UNLIMITED)).maximum <= out.width:
        out.print(table)
        return
    for row in listed:
        for line in _lines(columns, row, out.width):
            out.print(line, soft_wrap=True)


def _lines(columns: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """Return a row as its first value and, indented below it, the other fields; no field is broken."""
    lines = [row[0]]
    line = ""
    for field in (f"{name} {value}" for name, value in zip(columns[1:], row[1:], strict=True) if value):
        if line and len(f"{_INDENT}{line}, {field}") >= width:
            lines.append(f"{_INDENT}{line},")
            line = field
        else:
            line = f"{line}, {field}" if line else field
    return [*lines, f"{_INDENT}{line}"] if line else lines
