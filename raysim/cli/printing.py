"""Facts and tables on the standard output: styled in a terminal, plain lines of any length elsewhere.

Rich is imported when something is printed: `raysim --help` has no use for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import RenderableType

Justify = Literal["left", "right"]

_ENDLESS = 10_000
"""Columns of a line that is not for a terminal: nothing is wrapped or cut for a program that reads it."""


def heading(text: str) -> None:
    """A heading."""
    from rich.text import Text

    _show(Text(text, style="bold"))


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """A line for each name and its value."""
    from rich.table import Column, Table
    from rich.text import Text

    grid = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), Text(value))
    _show(grid)


def table(columns: Mapping[str, Justify], rows: Iterable[Sequence[object]]) -> None:
    """A table with a line of column names."""
    from rich.table import Column, Table
    from rich.text import Text

    grid = Table(
        *(Column(name, justify=justify) for name, justify in columns.items()),
        box=None,
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for row in rows:
        grid.add_row(*(Text(str(value)) for value in row))
    _show(grid)


def gap() -> None:
    """An empty line."""
    print()


def _show(what: RenderableType) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(what)
        return
    wide = Console(highlight=False, width=_ENDLESS, color_system=None)
    with wide.capture() as captured:
        wide.print(what)
    for line in captured.get().splitlines():
        print(line.rstrip())
