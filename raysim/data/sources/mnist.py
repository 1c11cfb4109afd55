"""MNIST, and every data set that comes as the same four IDX files (Fashion-MNIST, KMNIST, EMNIST)."""

from __future__ import annotations

from pathlib import Path

from raysim.config.sources import MnistConfig
from raysim.data.dataset import Dataset
from raysim.data.sources.arrays import from_arrays
from raysim.data.sources.files import search_path
from raysim.data.sources.idx import read_pair
from raysim.errors import DataError

FOLDER = "mnist"
# Publishers write `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, EMNIST with a prefix and `test` for `t10k`.
_FILES = {
    "train-images-idx3-ubyte": ("*train-images?idx3-ubyte",),
    "train-labels-idx1-ubyte": ("*train-labels?idx1-ubyte",),
    "t10k-images-idx3-ubyte": ("*t10k-images?idx3-ubyte", "*test-images?idx3-ubyte"),
    "t10k-labels-idx1-ubyte": ("*t10k-labels?idx1-ubyte", "*test-labels?idx1-ubyte"),
}


def find_mnist(folder: Path) -> dict[str, Path]:
    """The four files in a folder, by their usual names; fewer if some are not there. Plain files come before gzipped.

    Raises:
        DataError: several files could be one of the four, as in a folder with all of EMNIST.
    """
    found = {}
    for name, patterns in _FILES.items():
        plain = [path for pattern in patterns for path in folder.glob(pattern)]
        matches = plain or [path for pattern in patterns for path in folder.glob(f"{pattern}.gz")]
        if len(matches) > 1:
            names = ", ".join(sorted(path.name for path in matches))
            raise DataError(f"{folder}: {names} could each be {name}; keep one data set a folder")
        if matches:
            found[name] = matches[0]
    return found


def read_mnist(folder: Path) -> Dataset:
    """The data set in a folder that has the four files: pixels uint8 (1, 28, 28).

    Raises:
        DataError: a file is missing or damaged, or they do not belong together.
    """
    files = find_mnist(folder)
    missing = [name for name in _FILES if name not in files]
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} (or .gz) is missing; put MNIST's four IDX files there")
    paths = [files[name] for name in _FILES]
    x, y = read_pair(paths[0], paths[1])
    x_test, y_test = read_pair(paths[2], paths[3])
    return from_arrays({"x": x, "y": y, "x_test": x_test, "y_test": y_test}, origin=str(folder))


def load_mnist(config: MnistConfig, seed: int) -> Dataset:
    """MNIST from the first place that has any of its files.

    Raises:
        DataError: no place has any; the message names the places and the remedy.
    """
    places = list(search_path(FOLDER, config.path))
    for place in places:
        if find_mnist(place):
            return read_mnist(place)
    looked = ", ".join(map(str, places))
    raise DataError(
        f"mnist: no IDX files in {looked}; set data.source.path or RAYSIM_DATA, or run "
        "`raysim data import mnist FOLDER`"
    )
