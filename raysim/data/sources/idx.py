"""The IDX format of MNIST and its kin: big-endian arrays with a four-byte magic number."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from raysim.arrays import Array
from raysim.config.sources import IdxConfig
from raysim.data.dataset import Dataset, InputKind
from raysim.data.room import check_room
from raysim.data.sources.arrays import from_arrays
from raysim.data.sources.files import opened, read_exactly
from raysim.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 8


def read_idx(path: str | Path) -> Array:
    """The array in an IDX file, plain or gzipped, in native byte order and its stored type.

    Of the file no more is read than its header says, and one byte to see that it ends there.

    Raises:
        DataError: the file is missing, is no IDX file, is shorter or longer than its header says, or says more than
            there is memory for.
    """
    with opened(path) as stream:
        magic = stream.read(4)
        dimensions = magic[3] if len(magic) == 4 else 0
        lengths = stream.read(4 * dimensions)
        whole = magic[:2] == b"\0\0" and len(lengths) == 4 * dimensions
        if not whole or not 0 < dimensions <= _MOST_DIMENSIONS or magic[2] not in _TYPES:
            raise DataError(f"{path}: not an IDX file (it starts with {magic.hex(' ') or 'nothing'})")
        shape = struct.unpack(f">{dimensions}I", lengths)
        kind, header = np.dtype(_TYPES[magic[2]]), 4 + len(lengths)
        expected = kind.itemsize * math.prod(shape)
        check_room(expected, str(path), f"an array of shape {shape}", "fetch it again")
        content = read_exactly(stream, expected)
        needs = f"shape {shape} needs {header + expected}; fetch it again"
        if len(content) < expected:
            raise DataError(f"{path}: truncated: {header + len(content)} bytes where {needs}")
        if stream.read(1):
            raise DataError(f"{path}: too long: more bytes follow where {needs}")
    return np.frombuffer(content, kind).reshape(shape).astype(kind.newbyteorder("="))


def read_pair(features: str | Path, labels: str | Path) -> tuple[Array, Array]:
    """Samples and labels of two IDX files; grey images `[n, h, w]` get their channel: `[n, 1, h, w]`.

    Raises:
        DataError: a file cannot be read, or they have different lengths.
    """
    x, y = read_idx(features), read_idx(labels)
    if len(x) != len(y):
        raise DataError(f"{features}: {len(x)} samples, but {labels} has {len(y)} labels; they are no pair")
    return (x[:, None] if x.ndim == 3 else x), y


def load_idx(config: IdxConfig, seed: int) -> Dataset:
    """Any IDX pair: uint8 samples are pixels, every other type is features."""
    if (config.test_features is None) != (config.test_labels is None):
        raise DataError("data.source: give both test_features and test_labels, or neither")
    x, y = read_pair(config.features, config.labels)
    arrays = {"x": x, "y": y}
    if config.test_features is not None and config.test_labels is not None:
        arrays["x_test"], arrays["y_test"] = read_pair(config.test_features, config.test_labels)
    kind: InputKind = "pixels" if x.dtype == np.uint8 else "real"
    return from_arrays(arrays, origin=config.features, kind=kind)
