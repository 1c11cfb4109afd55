"""Where data files are looked for, and reading them plain or gzipped."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from raysim.data.room import check_room
from raysim.errors import DataError
from raysim.files import looked_up
from raysim.machine import available_memory

if TYPE_CHECKING:
    import pyarrow as pa

_GZIP = b"\x1f\x8b"
_LINE = 200
"""Characters of what a library says of a damaged file, which may be the file."""
_PIECE = 1 << 20
"""Bytes that are read at a time."""


def data_home() -> Path:
    """Folder of imported data sets: `$RAYSIM_HOME`, by default `~/.local/share/raysim`."""
    home = os.environ.get("RAYSIM_HOME")
    return Path(home).expanduser() if home else Path.home() / ".local" / "share" / "raysim"


def search_path(folder: str, configured: str | None) -> Iterator[Path]:
    """Places to look for a data set of several files: the configured folder alone, or else the usual ones."""
    if configured is not None:
        yield looked_up(Path(configured).expanduser())
        return
    shared = os.environ.get("RAYSIM_DATA")
    if shared:
        yield Path(shared).expanduser() / folder
    yield data_home() / folder


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A file to be read from its beginning, unpacked on the way if it is gzipped (told by its first bytes).

    Raises:
        DataError: the file is missing, unreadable, or a damaged gzip; also for what the block reads.
    """
    file = existing(path)
    try:
        with file.open("rb") as stream:
            packed = stream.read(len(_GZIP)) == _GZIP
            stream.seek(0)
            if packed:
                with gzip.open(stream) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file}: damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None


def read_bytes(path: str | Path) -> bytes:
    """The content of a file, unpacked if it is gzipped.

    Raises:
        DataError: the file is missing, unreadable, a damaged gzip, or larger than the memory.
    """
    content = io.BytesIO()
    most = available_memory()
    with opened(path) as stream:
        while piece := stream.read(_PIECE):
            content.write(piece)
            if content.tell() > most:
                check_room(content.tell(), str(path), "its content", "use a smaller file, or Parquet")
    return content.getvalue()


def read_exactly(stream: BinaryIO, nbytes: int) -> bytearray:
    """The next bytes of a stream, fewer where it ends; memory is taken for what there is, not for what was promised."""
    content = bytearray()
    while len(content) < nbytes and (piece := stream.read(min(_PIECE, nbytes - len(content)))):
        content += piece
    return content


def read_parquet(path: Path) -> pa.Table:
    """The table in a Parquet file, with every offset and all text checked.

    Raises:
        DataError: the file is no Parquet file, or a damaged one.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        described = parquet.read_metadata(path.absolute())
        values = described.num_rows * described.num_columns  # one value many times over is small on the disk
        check_room(8 * values, str(path), f"a table of {described.num_rows:,} rows", "use a smaller file")
        # Without `partitioning=None`, a folder called `year=2020` would become a column.
        return validated(parquet.read_table(path.absolute(), partitioning=None))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({first_line(error)})") from None


def validated(table: pa.Table) -> pa.Table:
    """The table; raises what Arrow raises if its text or the names of its columns are not UTF-8."""
    table.validate(full=True)
    _ = table.column_names
    return table


def first_line(error: Exception) -> str:
    """An exception's message, fit for the middle of a one-line message."""
    line = str(error).partition("\n")[0].rstrip(".")
    return line if len(line) <= _LINE else f"{line[:_LINE]}…"


def existing(path: str | Path) -> Path:
    """The path of a file that is there.

    Raises:
        DataError: there is no such file.
    """
    file = looked_up(Path(path).expanduser())
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "no such file"
        raise DataError(f"{file}: {what}; check the path in `data.source` (relative to {Path.cwd()})")
    return file
