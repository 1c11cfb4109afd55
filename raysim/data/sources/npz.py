"""NumPy archives, read member by member: no header is believed before the archive's own sizes agree with it."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from raysim.arrays import Array
from raysim.config.sources import NpzConfig
from raysim.data.dataset import Dataset
from raysim.data.room import check_room
from raysim.data.sources.arrays import from_arrays
from raysim.data.sources.files import existing, first_line, read_exactly
from raysim.errors import DataError

_SUFFIX = ".npy"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

# What a damaged zip directory or array header makes NumPy and zipfile raise; RuntimeError also for flags they
# cannot read, the last two for a header of brackets within brackets.
_DAMAGED = (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError)


def load_npz(config: NpzConfig, seed: int) -> Dataset:
    """An archive with arrays `x`, `y` and, if at hand, the other keys of `arrays.KEYS`. Objects are never unpickled.

    Raises:
        DataError: the file is missing, is no archive, is damaged, says more than it holds, or holds Python objects.
    """
    path = existing(config.path)
    try:
        arrays = _read(path)
    except _DAMAGED as error:
        raise DataError(f"{path}: not a readable .npz archive of plain arrays ({first_line(error)})") from None
    return from_arrays(arrays, origin=str(path), task=config.task)


def _read(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
            raise DataError(f"{path}: a single array; save x and y together with np.savez")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename.removesuffix(_SUFFIX) for member in members]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"it has {name!r} twice")
        total = sum(member.file_size for member in members)
        check_room(total, str(path), "its content", "use a smaller file")
        found = {}
        for name, member in zip(names, members, strict=True):
            with archive.open(member) as stream:
                found[name] = _array(cast(BinaryIO, stream), name, member.file_size)
        return found


def _array(stream: BinaryIO, name: str, size: int) -> Array:
    """The array of a member of `size` bytes."""
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name!r} is in version {version} of the format")
    shape, fortran, kind = _HEADERS[version](stream)
    if kind.hasobject or kind.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError(f"{name!r} is of type {kind} and shape {shape}")
    expected = kind.itemsize * math.prod(shape)
    if expected != size - stream.tell():
        raise ValueError(f"{name!r} of shape {shape} needs {expected:,} bytes and has {size - stream.tell():,}")
    content = read_exactly(stream, expected)
    stream.read(1)  # the archive's checksum is compared at the end
    if len(content) < expected:
        raise ValueError(f"{name!r} is truncated")
    values: Array = np.frombuffer(content, kind)
    return values.reshape(shape, order="F" if fortran else "C")
