"""Making files durable before their names are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


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
