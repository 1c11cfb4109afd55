"""Metrics of probabilities: whether a model is as sure as it is right."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float64
from raysim.data import DataInfo
from raysim.training.losses import element_weight
from raysim.training.metrics.classes import class_logits
from raysim.training.metrics.metric import MeanMetric, Metric, by_sample

BINS = 15
"""Bins of confidence, as in Guo et al. 2017."""


class Brier(MeanMetric):
    """Brier score: mean squared distance of the probabilities from the truth (Brier 1950).

    Of two classes (p − y)², p and y those of class 1; of more Σ_c (p_c − y_c)²: scikit-learn's `brier_score_loss`.
    """

    name = "brier"
    higher_is_better = False

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        classes = self.info.classes or 0
        probabilities = class_logits(output, target, classes).double().softmax(-1)
        if classes == 2:
            return (probabilities[..., 1] - target).square()
        truth = torch.nn.functional.one_hot(target.long(), classes)
        return (probabilities - truth).square().sum(-1)


class CalibrationError(Metric):
    """Expected calibration error: Σ_b share_b · |accuracy_b − confidence_b| (Guo et al. 2017, equation 3).

    Confidence is the largest softmax probability. It falls into one of `BINS` bins of equal width, ((b − 1) / 15,
    b / 15]. Rows are (Σ confidence, hits, targets) for each bin.
    """

    name = "ece"
    higher_is_better = False
    width = 3 * BINS

    def __init__(self, info: DataInfo) -> None:
        super().__init__(info)

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        logits = class_logits(output, target, self.info.classes or 0).double()
        confidence, predicted = logits.softmax(-1).max(-1)
        weights = element_weight(confidence, None if weight is None else weight.double())
        bins = by_sample((confidence.nan_to_num() * BINS).ceil().long().sub(1).clamp(0, BINS - 1))
        rows = torch.zeros(len(target), 3, BINS, dtype=torch.float64, device=target.device)
        # A masked target counts for nothing, whatever the model makes of it.
        measured = (torch.where(weights == 0, 0.0, weights * confidence), weights * (predicted == target), weights)
        for row, amounts in enumerate(measured):
            rows[:, row].scatter_add_(1, bins, by_sample(amounts))
        return rows.flatten(1)

    def value(self, sums: Float64) -> float:
        confidence, hits, targets = sums.reshape(3, BINS)
        return float(np.abs(hits - confidence).sum() / targets.sum()) if targets.sum() > 0 else math.nan
