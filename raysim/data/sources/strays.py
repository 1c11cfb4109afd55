"""Cells that keep a column of numbers from being one: `?`, `-`, `1,234`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from raysim.arrays import Array

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_OTHER_SPELLING = re.compile(r"\s*[+-]?\d{1,3}(([ ,'\u2019]\d{3})+(\.\d+)?|(\.\d{3})*,\d+)\s*")
"""Thousands separators, or a decimal comma."""
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Stray:
    """The first cell of a column of text that is no number, although more than half of the cells are."""

    position: int
    """In the column, from 0."""
    cell: str
    others: tuple[str, ...]
    """Every different one, in the order of the column."""
    numbers: int
    cells: int
    """That are not empty."""

    def __str__(self) -> str:
        return f"{self.cell!r} is not a number, as {self.numbers:,} of {self.cells:,} cells are"

    @property
    def remedy(self) -> str:
        """What turns the column into numbers."""
        if _OTHER_SPELLING.fullmatch(self.cell):
            return "write numbers with a decimal point and without thousands separators"
        if len(self.others) > SHOWN:
            return "correct such cells, or list them in data.source.na_values if they stand for holes"
        listed = ", ".join('"' + cell.strip() + '"' for cell in self.others)
        return f"set data.source.na_values: [{listed}] if it stands for a hole"

    @property
    def only_marks(self) -> bool:
        """Whether no stray cell has a letter or a digit, so that none can be the name of a class."""
        return not any(character.isalnum() for cell in self.others for character in cell)


def is_number(cell: str) -> bool:
    """Whether a cell is written as a number, with a decimal point and without thousands separators."""
    return _NUMBER.fullmatch(cell) is not None


def find_stray(values: Array) -> Stray | None:
    """The first stray cell of a column of text, str and None for a hole; None where the column is text all along."""
    cells = Counter(value for value in values.tolist() if value is not None)
    strays = [cell for cell in cells if not is_number(cell)]  # in the order of the column
    total = sum(cells.values())
    numbers = total - sum(cells[cell] for cell in strays)
    spelled = numbers + sum(cells[cell] for cell in strays if _OTHER_SPELLING.fullmatch(cell))
    if not strays or 2 * spelled <= total:
        return None
    return Stray(values.tolist().index(strays[0]), strays[0], tuple(strays), numbers, total)
