"""Where samples come from: one file a kind of source, all checked when they are read.

To add a source, write a file with `load(config, seed) -> Dataset`, a section in `raysim.config.sources`, and a line
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysim.config.base import CustomConfig
from raysim.config.sources import InMemoryConfig, SourceConfig
from raysim.config.text import CorpusConfig
from raysim.data.dataset import Dataset
from raysim.data.sources.arrays import from_arrays
from raysim.data.sources.cifar10 import load_cifar10
from raysim.data.sources.corpus import load_corpus
from raysim.data.sources.custom import given, load_custom
from raysim.data.sources.idx import load_idx
from raysim.data.sources.mnist import load_mnist
from raysim.data.sources.npz import load_npz
from raysim.data.sources.sklearn_sets import load_sklearn
from raysim.data.sources.synthetic import load_synthetic, synthetic_client, synthetic_sizes
from raysim.data.sources.table import load_table
from raysim.data.sources.targets import Task
from raysim.data.sources.text import load_text
from raysim.data.store.cache import cache_folder
from raysim.errors import DataError
from raysim.user_code import user_code

__all__ = ["SOURCES", "Source", "from_arrays", "load_source", "synthetic_client", "synthetic_sizes"]


@dataclass(frozen=True, slots=True)
class Source:
    """A named source: a line for `raysim list datasets`, and how it is loaded from its section and the data seed."""

    description: str
    load: Callable[[Any, int], Dataset] | None
    """None where there is nothing to load: the samples are made on the worker, or from files of the cache."""


SOURCES: dict[str, Source] = {
    "digits": Source("1,797 handwritten digits, 8 x 8, 10 classes; ships with scikit-learn", load_sklearn),
    "breast_cancer": Source("569 tumours, 30 features, 2 classes; ships with scikit-learn", load_sklearn),
    "wine": Source("178 wines, 13 features, 3 classes; ships with scikit-learn", load_sklearn),
    "diabetes": Source("442 patients, 10 features, regression; ships with scikit-learn", load_sklearn),
    "mnist": Source("70,000 handwritten digits, 28 x 28, or any data set in the same four IDX files", load_mnist),
    "idx": Source("any pair of IDX files, plain or gzipped", load_idx),
    "cifar10": Source("60,000 colour photographs, 32 x 32, 10 classes, from the binary version", load_cifar10),
    "csv": Source("a CSV file, plain or gzipped: one row a sample", load_table),
    "parquet": Source("a Parquet file: one row a sample", load_table),
    "npz": Source("a NumPy archive with arrays x, y and perhaps a test set, owners, weights", load_npz),
    "text": Source("next character of texts with owners; by default 40 bundled roles of Shakespeare", load_text),
    "corpus": Source("documents with owners, tokenised for a language model: JSON, Parquet, text, Hugging Face", None),
    "synthetic": Source("FedProx's Synthetic(alpha, beta), IID or heterogeneous", load_synthetic),
    "synthetic_virtual": Source("the same, made on the worker client by client: populations of millions", None),
}


def load_source(
    config: SourceConfig, *, seed: int, arrays: Any = None, task: Task | None = None, cache: Path | None = None
) -> Dataset:
    """Load a data set, checked but neither cleaned nor split.

    Args:
        config: the section `data.source`; any but `synthetic_virtual`, which has no samples to load.
        seed: the data seed, for sources that draw their samples.
        arrays: what was handed to the simulation, for `in_memory`: a `Dataset`, arrays, or map-style datasets.
        task: what the targets are for, where the source does not say (see `TrainingConfig.task`).
        cache: folder for what takes long to make again; by default the one of `cache_folder`.

    Raises:
        DataError: the data is missing, damaged or does not fit together.
        ConfigError: a custom source cannot be imported or called.
    """
    if isinstance(config, CustomConfig):
        return load_custom(config, task)
    if isinstance(config, InMemoryConfig):
        if arrays is None:
            raise DataError("data.source: in_memory needs its arrays again: pass data=… to Simulation")
        with user_code("data", DataError):
            return given(arrays, "data", task)
    if isinstance(config, CorpusConfig):
        return load_corpus(config, cache_folder(None) if cache is None else cache)
    load = SOURCES[config.name].load
    if load is None:
        raise ValueError(f"{config.name} has no samples to load")
    return load(config, seed)
