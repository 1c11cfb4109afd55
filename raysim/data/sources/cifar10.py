"""CIFAR-10's binary version (Krizhevsky 2009): records of one label byte and 3 x 32 x 32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raysim.arrays import Array
from raysim.config.sources import Cifar10Config
from raysim.data.dataset import Dataset
from raysim.data.sources.arrays import from_arrays
from raysim.data.sources.files import read_bytes, search_path
from raysim.errors import DataError

FOLDER = "cifar-10-batches-bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32


def find_cifar10(folder: Path) -> tuple[list[Path], Path]:
    """The training batches in order, and where the test batch should be."""
    return sorted(folder.glob("data_batch_*.bin")), folder / "test_batch.bin"


def read_cifar10(folder: Path) -> Dataset:
    """The data set in a folder of binary batches: pixels uint8 (3, 32, 32).

    Raises:
        DataError: a batch is missing or damaged.
    """
    batches, test = find_cifar10(folder)
    if not batches:
        raise DataError(f"{folder}: no data_batch_*.bin; unpack the binary version of CIFAR-10 there")
    parts = [_read_batch(path) for path in batches]
    x_test, y_test = _read_batch(test)
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    arrays = {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
    return from_arrays(arrays, origin=str(folder), class_names=CLASSES)


def _read_batch(path: Path) -> tuple[Array, Array]:
    content = read_bytes(path)
    if not content or len(content) % _RECORD:
        raise DataError(f"{path}: {len(content)} bytes are no whole number of {_RECORD}-byte records; fetch it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    y, x = records[:, 0], records[:, 1:].reshape(-1, *_SHAPE)
    wrong = np.flatnonzero(y >= len(CLASSES))
    if len(wrong):
        raise DataError(f"{path}: record {wrong[0]} has label {y[wrong[0]]}, outside 0..9; not a CIFAR-10 batch")
    return x, y


def load_cifar10(config: Cifar10Config, seed: int) -> Dataset:
    """CIFAR-10 from the first place that has a training batch.

    Raises:
        DataError: no place has one; the message names the places and the remedy.
    """
    places = list(search_path(FOLDER, config.path))
    for place in places:
        if find_cifar10(place)[0]:
            return read_cifar10(place)
    looked = ", ".join(map(str, places))
    raise DataError(
        f"cifar10: no data_batch_*.bin in {looked}; set data.source.path or RAYSIM_DATA, or run "
        "`raysim data import cifar10 FOLDER`"
    )
