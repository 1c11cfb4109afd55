"""Where stores are kept, and how one is built once although many processes may want it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from raysim.errors import DataError
from raysim.files import looked_up, refusal
from raysim.locks import FolderLock

_STORE = "store"
"""The folder in a builder's workshop that becomes the store; beside it is the builder's lock."""


def cache_folder(configured: str | None) -> Path:
    """The cache: `data.cache`, else `$RAYSIM_CACHE`, else `~/.cache/raysim`."""
    return looked_up(Path(configured or os.environ.get("RAYSIM_CACHE") or "~/.cache/raysim").expanduser().absolute())


def build_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary folder, then rename it to `folder`, which appears complete or not at all.

    Of several processes that do this at once, all succeed: the first one's folder stays, the others' work is dropped.
    What killed builders left beside it is removed.

    Raises:
        DataError: the folder cannot be written.
        StorageError: nor the lock in it.
    """
    workshop = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        _remove_abandoned(folder.parent)
        store = workshop / _STORE
        store.mkdir(parents=True)
        with FolderLock(workshop):
            write(store)
            try:
                store.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    except OSError as error:
        reason, _ = refusal(error)
        raise DataError(f"{folder}: cannot be written ({reason}); set data.cache to another folder") from None
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _remove_abandoned(cache: Path) -> None:
    """Remove the workshops of builders of this machine that are dead; how old one is says nothing."""
    with suppress(OSError):
        for workshop in cache.glob(".*.*"):
            if (lock := FolderLock.of_dead_writer(workshop)) is not None:
                shutil.rmtree(workshop / _STORE, ignore_errors=True)
                lock.release(remove=True)
                workshop.rmdir()
