"""The four small data sets that ship with scikit-learn: real data with no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from raysim.arrays import Float64
from raysim.config.sources import BundledConfig
from raysim.data.dataset import Dataset
from raysim.data.sources.arrays import from_arrays


def load_sklearn(config: BundledConfig, seed: int) -> Dataset:
    """Digits as float32 images (1, 8, 8) in [0, 1]; the other three as float32 features, unscaled.

    Digits are stored as 0..16, not 0..255, so they are divided by 16 here rather than sent as pixels.
    """
    if config.name == "digits":
        table = _digits()
        images = (table[:, :-1].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
        return from_arrays((images, table[:, -1].astype(int)), origin="digits", class_names=tuple("0123456789"))
    from sklearn import datasets

    if config.name == "diabetes":
        diabetes = datasets.load_diabetes(scaled=False)
        return from_arrays((diabetes.data, diabetes.target), origin="diabetes", task="regression")
    found = datasets.load_wine() if config.name == "wine" else datasets.load_breast_cancer()
    names = tuple(str(name) for name in found.target_names)
    return from_arrays((found.data, found.target), origin=config.name, class_names=names)


def _digits() -> Float64:
    """Pixels and label of each digit, `[1797, 65]`.

    They are read from scikit-learn's file, if it is where it is known to be: to import scikit-learn, and with it SciPy
    and pandas, takes a second.
    """
    package = find_spec("sklearn")
    file = Path(str(package and package.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn import datasets

    digits = datasets.load_digits()
    return np.column_stack([digits.data, digits.target])
