"""CSV files as Arrow tables: one header row, UTF-8, cells typed by column, and holes told from categories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from raysim.data.sources.files import first_line, read_bytes, validated
from raysim.data.sources.strays import is_number
from raysim.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = b",;\t|"
NUMERIC_HOLES = (
    *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None", "none"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""Cells that are holes in a column whose other cells are numbers. In a column of text only the empty cell is one."""


def read_csv(path: Path, na_values: Sequence[str] = (), *, texts: Sequence[str] = ()) -> pa.Table:
    """The table in a CSV file, plain or gzipped.

    The delimiter is the one of `DELIMITERS` that the header has most often outside quotes.

    Args:
        path: the file.
        na_values: cells that are holes in every column, beside the empty one.
        texts: columns to read as they are written, alone; by default all, each by its own type and with its holes.

    Raises:
        DataError: the file is missing, damaged, or not UTF-8.
    """
    import pyarrow as pa
    from pyarrow import csv

    content = read_bytes(path)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: this file is UTF-16; save it as UTF-8")
    header = re.sub(rb'"[^"]*"', b"", content.partition(b"\n")[0])
    delimiter = max(DELIMITERS, key=header.count)
    # One block, as far as Arrow allows: a column's type is inferred from the first block alone.
    block = min(len(content) + 1, 2**31 - 1)
    try:
        table = csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(use_threads=False, block_size=block),
            parse_options=csv.ParseOptions(delimiter=chr(delimiter)),
            convert_options=csv.ConvertOptions(
                null_values=[*NUMERIC_HOLES, *na_values],
                strings_can_be_null=False,  # a category may be called NA
                include_columns=list(texts) or None,
                column_types=dict.fromkeys(texts, pa.string()),
            ),
        )
        return validated(table) if texts else with_holes(validated(table), ("", *na_values))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable CSV file ({first_line(error)})") from None


def with_holes(table: pa.Table, cells: Sequence[str]) -> pa.Table:
    """The table with these cells as nulls: of text columns, blanks around them aside, and those that are numbers.

    A column of text whose other cells are all numbers becomes numeric: these cells alone made it text.
    """
    import pyarrow as pa
    from pyarrow import compute

    numbers = pa.array([float(cell) for cell in cells if is_number(cell)], pa.float64())
    for at, column in enumerate(table.columns):
        name = table.column_names[at]
        if pa.types.is_dictionary(column.type):  # pandas' categories
            column = column.cast(column.type.value_type)
        kind = column.type
        if len(numbers) and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            hole = compute.is_in(column.cast(pa.float64(), safe=False), value_set=numbers)
            table = table.set_column(at, name, compute.if_else(hole, pa.scalar(None, kind), column))
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            continue
        trimmed = compute.utf8_trim_whitespace(column)
        hole = compute.is_in(trimmed, value_set=pa.array(cells, kind))
        if not compute.any(hole).as_py():
            continue
        holed = compute.if_else(hole, pa.scalar(None, kind), column)
        with suppress(pa.ArrowInvalid):
            holed = compute.if_else(hole, pa.scalar(None, kind), trimmed).cast(pa.float64())
        table = table.set_column(at, name, holed)
    return table
