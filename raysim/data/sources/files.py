"""Where data files are looked for, and reading them plain or gzipped."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from raysim.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_GZIP = b"\x1f\x8b"


def data_home() -> Path:
    """Folder of imported data sets: `$RAYSIM_HOME`, by default `~/.local/share/raysim`."""
    home = os.environ.get("RAYSIM_HOME")
    return Path(home).expanduser() if home else Path.home() / ".local" / "share" / "raysim"


def search_path(folder: str, configured: str | None) -> Iterator[Path]:
    """Places to look for a data set of several files: the configured folder alone, or else the usual ones."""
    if configured is not None:
        yield Path(configured).expanduser()
        return
    shared = os.environ.get("RAYSIM_DATA")
    if shared:
        yield Path(shared).expanduser() / folder
    yield data_home() / folder


def read_bytes(path: str | Path) -> bytes:
    """The content of a file, unpacked if it is gzipped (told by its first bytes, not its name).

    Raises:
        DataError: the file is missing, unreadable, or a damaged gzip.
    """
    file = existing(path)
    try:
        content = file.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file}: damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None


def read_parquet(path: Path) -> pa.Table:
    """The table in a Parquet file, with every offset and all text checked.

    Raises:
        DataError: the file is no Parquet file, or a damaged one.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # Without `partitioning=None`, a folder called `year=2020` would become a column.
        return validated(parquet.read_table(path, partitioning=None))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({first_line(error)})") from None


def validated(table: pa.Table) -> pa.Table:
    """The table; raises what Arrow raises if its text or the names of its columns are not UTF-8."""
    table.validate(full=True)
    _ = table.column_names
    return table


def first_line(error: Exception) -> str:
    """An exception's message, fit for the middle of a one-line message."""
    return str(error).partition("\n")[0].rstrip(".")


def existing(path: str | Path) -> Path:
    """The path of a file that is there.

    Raises:
        DataError: there is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "no such file"
        raise DataError(f"{file}: {what}; check the path in `data.source` (relative to {Path.cwd()})")
    return file
