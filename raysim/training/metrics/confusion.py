"""Which classes are taken for which: counts that add up exactly over ranges."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Int64
from raysim.data import DataInfo
from raysim.training.losses import element_weight
from raysim.training.metrics.classes import predicted_class

PairCounts = tuple[Int64, Int64]
"""Pairs (target, prediction) as target · classes + prediction, ascending, and how often each occurred; `[k]` both."""


class ConfusionCounts:
    """Counts (target, prediction) of samples with one class each and a weight other than 0; a batch at a time."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._pairs: list[Tensor] = []
        self._fits = True

    @classmethod
    def of(cls, info: DataInfo) -> ConfusionCounts | None:
        """For samples that have one class each; None for others."""
        single = info.task == "classification" and not info.target_shape and not info.preferences
        return cls(info.classes) if single and info.classes else None

    def add(self, output: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """Count a batch; nothing is counted of a model whose outputs are no classes."""
        try:
            predicted = predicted_class(output, target, self._classes)
        except ValueError:  # a loss and metrics of the user's own may want other outputs
            self._fits = False
            return
        pairs = target.long() * self._classes + predicted
        if weight is not None:
            counted = element_weight(torch.empty_like(target, dtype=torch.float64), weight) != 0
            pairs = torch.where(counted, pairs, -1)  # taken out later: nothing waits for a batch on the device
        self._pairs.append(pairs)

    def counts(self) -> PairCounts | None:
        """What was counted; None where outputs are no classes, or there was no batch."""
        if not self._fits or not self._pairs:
            return None
        pairs = torch.cat(self._pairs).cpu().numpy()
        pairs = pairs[pairs >= 0]
        if self._classes**2 <= len(pairs):  # no more numbers than values to sort
            found = np.bincount(pairs)
            codes = np.flatnonzero(found)
            return codes.astype(np.int64), found[codes].astype(np.int64)
        codes, counts = np.unique(pairs, return_counts=True)
        return codes.astype(np.int64), counts.astype(np.int64)


def added_pairs(parts: Iterable[PairCounts]) -> PairCounts:
    """The counts over several ranges."""
    given = list(parts)
    if not given:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    codes, inverse = np.unique(np.concatenate([codes for codes, _ in given]), return_inverse=True)
    counts = np.zeros(len(codes), dtype=np.int64)
    np.add.at(counts, inverse, np.concatenate([counts for _, counts in given]))
    return codes, counts
