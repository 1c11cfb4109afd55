"""One writer for each folder: a run, a study, a shard store that is being built."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysim.errors import RunError
from raysim.files import storing

LOCK = ".lock"
"""The name of the lock in its folder."""

_NOT_SUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_ATTEMPTS = 10
"""A file that is another one every time is on a file system whose numbers mean nothing: its lock is taken as it is."""


class FolderLock:
    """Held while a process writes a folder; the operating system releases it when the process dies, however it dies.

    The lock is the kernel's lock on the open file `.lock`. What the file says (host and process) is only for people: a
    record left behind by a killed process blocks no one.
    """

    def __init__(self, folder: Path, *, certain: bool = False) -> None:
        """Take the lock.

        Args:
            folder: it must be there.
            certain: refuse a file system without locks, on which every process gets the lock.

        Raises:
            RunError: another process, or another part of this one, is writing the folder.
            StorageError: the disk refuses.
        """
        self._path = folder / LOCK
        with storing(self._path):
            self._file = _locked(self._path, certain)
        # A byte ahead of the record: Windows locks the first byte, against reading, too.
        record = b" " + json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        with contextlib.suppress(OSError):  # the lock is held, whether or not a full disk takes the record
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, record)

    @staticmethod
    def writer(folder: Path) -> str | None:
        """Who writes the folder, as a phrase; None if no process does. Takes no lock and writes nothing.

        A process of another machine counts as alive: only a record that it left says that it was there.
        """
        try:
            with (folder / LOCK).open("rb") as file:
                record = _record(file.fileno())
            if record["host"] == socket.gethostname():
                os.kill(int(record["pid"]), 0)  # raises where there is no such process
            return f"process {record['pid']} on {record['host']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    @classmethod
    def of_dead_writer(cls, folder: Path) -> FolderLock | None:
        """Take over the lock of a folder whose writer died; None where it lives, or may live.

        A writer of another machine may always live: some cluster file systems keep locks to the machine that took them.
        """
        try:
            with (folder / LOCK).open("rb") as file:
                return cls(folder, certain=True) if _record(file.fileno())["host"] == socket.gethostname() else None
        except (OSError, ValueError, KeyError, TypeError, RunError):
            return None

    def release(self, *, remove: bool = False) -> None:
        """Let others write the folder; with `remove` the lock's file goes, too. Does nothing the second time."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            if remove:
                self._path.unlink()
            else:
                os.ftruncate(self._file, 0)
        os.close(self._file)
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _locked(path: Path, certain: bool) -> int:
    """The open file, locked: the one of this name, not one that its holder has just removed."""
    for attempt in range(_ATTEMPTS):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(file, certain):
                raise RunError(f"{path.parent}: is being written by {_owner(file)}; stop that one first")
            if attempt == _ATTEMPTS - 1 or _is_at(path, file):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise AssertionError("the last attempt returns or raises")


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int, certain: bool) -> bool:
    # Here and not above: most commands lock nothing.
    from filelock import lock_descriptor

    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        # Some cluster file systems are mounted without locks. The lock guards against a slip of the hand; a run that
        # could not start at all would be worse.
        if certain or error.errno not in _NOT_SUPPORTED:
            raise
        return True


def _owner(file: int) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        record = _record(file)
        return f"process {record['pid']} on {record['host']}"
    return "another process"


def _record(file: int) -> Any:
    os.lseek(file, 1, os.SEEK_SET)
    return json.loads(os.read(file, 4096))
