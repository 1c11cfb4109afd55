"""NumPy archives."""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from raysim.config.sources import Npz
from raysim.data.dataset import Dataset
from raysim.data.sources.arrays import from_arrays
from raysim.data.sources.files import existing, first_line
from raysim.errors import DataError

# What a damaged zip directory or array header makes NumPy and zipfile raise; the last two for flags they cannot read.
_DAMAGED = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


def load_npz(config: Npz, seed: int) -> Dataset:
    """An archive with arrays `x`, `y` and, if at hand, the other keys of `arrays.KEYS`. Objects are never unpickled.

    Raises:
        DataError: the file is missing, is no archive, is damaged, or holds Python objects.
    """
    path = existing(config.path)
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise DataError(f"{path}: a single array; save x and y together with np.savez")
        with opened:
            arrays = dict(opened)
    except _DAMAGED as error:
        raise DataError(f"{path}: not a readable .npz archive of plain arrays ({first_line(error)})") from None
    return from_arrays(arrays, origin=str(path), task=config.task)
