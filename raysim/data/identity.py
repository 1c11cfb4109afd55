"""What a federation is built from, as a short string: from its files' sizes and dates if possible, else its content."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from raysim import keyed
from raysim.config.sources import (
    BundledConfig,
    Cifar10Config,
    IdxConfig,
    MnistConfig,
    NpzConfig,
    SourceConfig,
    SyntheticConfig,
    TableConfig,
    TextConfig,
)
from raysim.config.text import CorpusConfig
from raysim.data.dataset import Columns, Dataset, Pool
from raysim.data.sources.cifar10 import FOLDER as CIFAR10_FOLDER
from raysim.data.sources.cifar10 import find_cifar10
from raysim.data.sources.corpus import corpus_identity
from raysim.data.sources.files import search_path
from raysim.data.sources.mnist import FOLDER as MNIST_FOLDER
from raysim.data.sources.mnist import find_mnist
from raysim.data.sources.text import BUNDLED
from raysim.files import looked_up


@cache
def code_identity() -> str:
    """SHA-256 of the code that builds: a store of another version is not reused."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in (*sorted(package.rglob("*.py")), Path(keyed.__file__)):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def source_identity(config: SourceConfig) -> str | None:
    """Identity of a source without loading it; None where only its samples can tell (see `dataset_identity`).

    Files count by path, size and time of change. Synthetic data is a function of its section and the seed.
    """
    if isinstance(config, SyntheticConfig):
        return "synthetic"
    if isinstance(config, CorpusConfig):
        return corpus_identity(config)
    if isinstance(config, BundledConfig):
        return f"scikit-learn {metadata.version('scikit-learn')}"
    files = _files(config)
    if not files or not all(looked_up(file).is_file() for file in files):
        return None  # loading it says what is missing
    states = [(str(file.absolute()), file.stat()) for file in files]
    return repr([(path, state.st_size, state.st_mtime_ns) for path, state in states])


def _files(config: SourceConfig) -> list[Path]:
    if isinstance(config, MnistConfig):
        found = (find_mnist(place) for place in search_path(MNIST_FOLDER, config.path))
        return list(next(filter(None, found), {}).values())
    if isinstance(config, Cifar10Config):
        places = (find_cifar10(place) for place in search_path(CIFAR10_FOLDER, config.path))
        return next(([*batches, test] for batches, test in places if batches), [])
    names: list[str | None] = []
    if isinstance(config, IdxConfig):
        names = [config.features, config.labels, config.test_features, config.test_labels]
    elif isinstance(config, TextConfig) and config.path is None:
        with resources.as_file(resources.files("raysim.data") / "bundled" / BUNDLED) as bundled:
            return [bundled]
    elif isinstance(config, TableConfig):
        names = [config.path, config.test]
    elif isinstance(config, NpzConfig | TextConfig):
        names = [config.path]
    return [Path(name).expanduser() for name in names if name is not None]


def dataset_identity(dataset: Dataset) -> str:
    """SHA-256 of all samples of a data set, their targets, owners and weights."""
    digest = hashlib.sha256(repr((dataset.info, dataset.class_names)).encode())
    if dataset.identity is not None:
        digest.update(dataset.identity.encode())
        return digest.hexdigest()
    for pool in (dataset.train, dataset.test):
        if pool is not None:
            for array in _arrays(pool):
                digest.update(repr((array.dtype.str, array.shape)).encode())
                digest.update(_bytes(array))
    return digest.hexdigest()


def _arrays(pool: Pool) -> list[Any]:
    x = [np.array(pool.x.names), *pool.x.values] if isinstance(pool.x, Columns) else [pool.x]
    return [*x, pool.y, *(array for array in (pool.client, pool.weight) if array is not None)]


def _bytes(array: Any) -> Any:
    if array.dtype == object:  # strings, and None for a hole
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
