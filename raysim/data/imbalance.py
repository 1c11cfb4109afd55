"""An imbalanced training set from one that is not: samples of some classes are left out, and nothing else."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config.imbalance import ImbalanceConfig
from raysim.data.dataset import Pool
from raysim.data.federation import DataInfo
from raysim.errors import DataError
from raysim.keyed import Purpose, bits

_CLASSES, _SAMPLES = 0, 1


def imbalanced(config: ImbalanceConfig, pool: Pool, rows: Int64, info: DataInfo, seed: int) -> Int64:
    """Those of the training rows `[n]` that are kept, in their order; which ones is keyed by (seed, class, row).

    Of the class of rank r, from 0 for the most frequent, n₀ · share(r) samples are kept, rounded, at least one, with n₀
    as large as all classes allow: the ratio is met whatever the classes had.

    Raises:
        DataError: the samples have not one class each, or a class has none to begin with.
    """
    if config.ratio == 1:
        return rows
    classes = info.classes or 0
    if info.task != "classification" or info.target_shape or pool.y.dtype.kind not in "iu" or classes < 2:
        raise DataError("data.imbalance: only samples with one label of two classes or more have any; remove it")
    labels = pool.targets[rows].astype(np.int64)
    present = np.bincount(labels, minlength=classes)
    if not present.all():
        missing = int(np.flatnonzero(present == 0)[0])
        raise DataError(f"data.imbalance: there is no training sample of class {missing} to begin with; remove it")
    wanted = kept(config, present, seed)
    score = bits(seed, Purpose.IMBALANCE, _SAMPLES, labels, rows)
    order = np.lexsort((score, labels))
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(np.cumsum(present) - present, present)
    return rows[rank < wanted[labels]]


def kept(config: ImbalanceConfig, present: Int64, seed: int) -> Int64:
    """How many samples of each class are kept, of `present`, int64 `[classes]`."""
    classes = len(present)
    rank = np.arange(classes)
    if config.order == "shuffled":
        rank = np.argsort(np.argsort(bits(seed, Purpose.IMBALANCE, _CLASSES, rank), kind="stable"))
    share = shares(config, classes)[rank]
    most = float((present / share).min())
    return np.maximum(np.round(most * share), 1).astype(np.int64)


def shares(config: ImbalanceConfig, classes: int) -> Array:
    """Samples of the class of each rank as a share of the most frequent one's, float64 `[classes]`."""
    if config.profile == "exponential":
        falling: Array = config.ratio ** (-np.arange(classes) / (classes - 1))
        return falling
    rare = min(max(round(config.minority * classes), 1), classes - 1)
    return np.where(np.arange(classes) < classes - rare, 1.0, 1.0 / config.ratio)
