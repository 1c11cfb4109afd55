"""The four small data sets that ship with scikit-learn: real data with no download."""

from __future__ import annotations

import numpy as np

from raysim.config.sources import BundledConfig
from raysim.data.dataset import Dataset
from raysim.data.sources.arrays import from_arrays


def load_sklearn(config: BundledConfig, seed: int) -> Dataset:
    """Digits as float32 images (1, 8, 8) in [0, 1]; the other three as float32 features, unscaled.

    Digits are stored as 0..16, not 0..255, so they are divided by 16 here rather than sent as pixels.
    """
    from sklearn import datasets

    if config.name == "digits":
        digits = datasets.load_digits()
        images = (digits.images[:, None] / 16).astype(np.float32)
        return from_arrays((images, digits.target), origin="digits", class_names=tuple("0123456789"))
    if config.name == "diabetes":
        diabetes = datasets.load_diabetes(scaled=False)
        return from_arrays((diabetes.data, diabetes.target), origin="diabetes", task="regression")
    table = datasets.load_wine() if config.name == "wine" else datasets.load_breast_cancer()
    names = tuple(str(name) for name in table.target_names)
    return from_arrays((table.data, table.target), origin=config.name, class_names=names)
