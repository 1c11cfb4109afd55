"""Where stores are kept, and how one is built once although many processes may want it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from raysim.errors import DataError


def cache_folder(configured: str | None) -> Path:
    """The cache: `data.cache`, else `$RAYSIM_CACHE`, else `~/.cache/raysim`."""
    return Path(configured or os.environ.get("RAYSIM_CACHE") or "~/.cache/raysim").expanduser().absolute()


def build_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary folder, then rename it to `folder`, which appears complete or not at all.

    Of several processes that do this at once, all succeed: the first one's folder stays, the others' work is dropped.

    Raises:
        DataError: the folder cannot be written.
    """
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error}); set data.cache to another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
