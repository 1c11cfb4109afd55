"""One writer for each run directory."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from raysim.errors import RunError
from raysim.tracking.files import storing


class RunLock:
    """Held while a process writes a run; the operating system releases it when the process dies, however it dies.

    The lock is the kernel's lock on the open file. What the file says (host and process) is only for people: a record
    left behind by a killed process holds nobody up.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            RunError: another process, or another part of this one, is writing the run.
            StorageError: the disk refuses.
        """
        self._path = path
        with storing(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(self._file)
        except BlockingIOError:
            owner = _owner(self._file)
            os.close(self._file)
            raise RunError(f"{path.parent}: is being written by {owner}; stop that one first") from None
        record = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        os.ftruncate(self._file, 0)
        with contextlib.suppress(OSError):  # the lock is held, whether or not a full disk takes the record
            os.pwrite(self._file, record, 0)

    def release(self) -> None:
        """Let others write the run. Does nothing the second time."""
        if self._file >= 0:
            # The file stays: were it deleted, a process that had just opened it would hold a lock nobody else sees.
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lock(file: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some cluster file systems are mounted without locks. The lock guards against a slip of the hand; a run that
        # could not start at all would be worse.
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise


def _owner(file: int) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        record = json.loads(os.pread(file, 4096, 0))
        return f"process {record['pid']} on {record['host']}"
    return "another process"
