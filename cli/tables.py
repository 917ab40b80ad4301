"""Tables on a terminal, and lines of cells where something else reads them."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


def print_table(console: Console, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns' names. No text is cut: it wraps on a terminal, and tabs part it elsewhere."""
    if not console.is_terminal:
        for row in (names, *rows):
            # the console would turn tabs into spaces
            console.file.write("\t".join(row) + "\n")
        return
    table = Table(*(Column(name, overflow="fold") for name in names))
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
