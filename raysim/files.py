"""Files written whole or not at all, and what a disk refuses as one line with a remedy."""

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
_SHOWN = 80
"""Characters of a path that is too long."""
_TEMPORARY = re.compile(r"\..+\.tmp")


def temporary_for(path: Path) -> Path:
    """The hidden name in the same folder under which this process prepares `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that `temporary_for` named, in this process or another."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name to write to; renamed to `path` at the end of the block, removed if the block fails.

    The folder is made if it is missing. Readers see the file that was there or all of the new one.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(file)
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file under a temporary name in the same folder, then rename it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    """Remove what a killed process left half-written. Only for the process that holds the folder's lock."""
    for leftover in folder.iterdir():
        if is_temporary(leftover.name):
            remove(leftover)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as the disk allows."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def looked_up(path: Path | str) -> Path:
    """A path of the user's, whether there is something or not.

    Raises:
        StorageError: it is no path, or one where nothing can ever be: too long, with a NUL byte, or with links that go
            round in a circle.
    """
    if not isinstance(path, str | os.PathLike):
        raise StorageError(f"{path!r}: expected the path of a file or folder, got {type(path).__name__}")
    file = Path(path)
    try:
        file.stat()
    except ValueError:
        raise StorageError(f"{str(path)!r}: no path, for it contains a NUL byte; give another") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StorageError(f"{path}: its links go round in a circle; give another path") from None
        if error.errno == errno.ENAMETOOLONG:
            shown = str(path) if len(str(path)) <= _SHOWN else f"{str(path)[:_SHOWN]}…"
            raise StorageError(f"{shown}: longer than the file system takes; give a shorter path") from None
    return file


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
