"""Making files durable before their names are, and saying in one line what a disk refuses."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysim.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or ask for a larger quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EROFS: "make it writable",
}
_UNKNOWN = "see that it is there, can be reached and can be written"
_NUMBER = re.compile(r"(?:errno|os error) (\d+)")
"""How Arrow and safetensors put the system's error number into their messages."""


def temporary_for(path: Path) -> Path:
    """The hidden name in the same folder under which this process prepares `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sync(path: Path) -> None:
    """Wait until the file's bytes, or the folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_replace(temporary: Path, final: Path) -> None:
    """Give a finished file its name, so that after a power cut there is the old one or all of the new one."""
    sync(temporary)
    temporary.replace(final)
    sync(final.parent)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written. Only for the process that holds the run's lock."""
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextmanager
def storing(where: Path | str, task: str = "cannot be written") -> Iterator[None]:
    """Say in one line, with a remedy, what a disk or a store refuses inside.

    Raises:
        StorageError: instead of an `OSError`, Arrow's among them.
    """
    try:
        yield
    except OSError as error:
        reason, remedy = refusal(error)
        raise StorageError(f"{where}: {task} ({reason}); {remedy}") from error


def refusal(error: Exception) -> tuple[str, str]:
    """Why something could not be stored, and what to do about it."""
    number = getattr(error, "errno", None)
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found.group(1))
    reason = os.strerror(number) if number in _REMEDIES else str(error).partition("\n")[0]
    return reason, _REMEDIES.get(number or 0, _UNKNOWN)
