"""Losses for classes of unequal size: what label counts say about logits and about what each class counts.

Whatever is made of counts is made here, once, in float64; a loss gets the result as its client's context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float64, Int64
from raysim.config.balance import (
    AdjustedLogitsConfig,
    ClassWeightsConfig,
    EffectiveWeightsConfig,
    EqualClassesConfig,
    ExplicitClassWeightsConfig,
    FedLcLogitsConfig,
    FedRsLogitsConfig,
    InverseWeightsConfig,
    LogitsConfig,
    PlainLogitsConfig,
)
from raysim.config.training import TrainingConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training.handed import NOTHING, HandedOver
from raysim.training.losses import Loss, cross_entropy, loss_name, resolve_loss, row_cross_entropy

NONE_AT_ALL = 1e-8
"""Samples that FedLC takes a class for of which the client has none: its logit falls by 100 tau, out of the softmax."""


@dataclass(frozen=True, slots=True)
class BalancedLoss:
    """w[target] · loss(logits · scale + offset, target), with w, scale and offset of the client's own.

    A `ClientLoss`: its context is `[len(parts), classes]`.

    Attributes:
        loss: of corrected logits.
        parts: which of `scale`, `offset`, `weight` the context has, in this order.
        classes: number of classes.
    """

    loss: Loss
    parts: tuple[str, ...]
    classes: int
    class_weights: ClassWeightsConfig
    logits: LogitsConfig

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one client's context."""
        return len(self.parts), self.classes

    @property
    def looks_at_federation(self) -> str:
        """Which of its options looks at the label counts of all clients together; empty where none does."""
        if isinstance(self.logits, AdjustedLogitsConfig):
            return "logits"
        return "class_weights" if getattr(self.class_weights, "scope", "client") == "federation" else ""

    def __call__(self, output: Tensor, target: Tensor, context: Tensor) -> Tensor:
        given = dict(zip(self.parts, context.unbind(), strict=True))
        if "scale" in given:
            output = output * given["scale"]
        if "offset" in given:
            output = output + given["offset"]
        elements = self.loss(output, target)
        if "weight" in given:
            elements = elements * given["weight"].gather(0, target.long())
        return elements

    def context(self, own: Int64, population: Int64 | None) -> Tensor:
        """What clients with these label counts `[K, classes]` are given, float32 `[K, *shape]`.

        Args:
            population: label counts of all clients together, `[classes]`, where it needs them.
        """
        makers: Mapping[str, Callable[[], Float64]] = {
            "scale": lambda: restricted(self.logits, own),
            "offset": lambda: offsets(self.logits, own, population),
            "weight": lambda: class_weights(self.class_weights, own, population),
        }
        found = [np.broadcast_to(makers[part](), own.shape) for part in self.parts]
        return torch.from_numpy(np.stack(found, axis=1).astype(np.float32))


def resolve_client_loss(training: TrainingConfig, info: DataInfo, handed: HandedOver = NOTHING) -> Loss | BalancedLoss:
    """The loss that clients train on: the configured one, or what the configuration makes of it for unequal classes.

    Raises:
        ConfigError: it does not suit the data, or the loss.
    """
    loss = resolve_loss(training, info, handed)
    logits, weights = training.logits, training.class_weights
    corrected, weighted = not isinstance(logits, PlainLogitsConfig), not isinstance(weights, EqualClassesConfig)
    if not corrected and not weighted:
        return loss
    key = "training.logits" if corrected else "training.class_weights"
    if info.task != "classification" or info.target_shape or info.preferences:
        raise ConfigError(f"{key}: {_name(key, training)} is for samples with one class each; remove it")
    if corrected and loss_name(training, info) not in ("cross_entropy", "focal"):
        raise ConfigError(
            f"training.logits: {logits.name} corrects a logit a class, {training.loss} is not known to have one; use "
            "cross_entropy or focal"
        )
    classes = info.classes or 0
    if isinstance(weights, ExplicitClassWeightsConfig) and (beyond := [one for one in weights.table if one >= classes]):
        raise ConfigError(
            f"training.class_weights.table: there is no class {beyond[0]}; classes are 0 to {classes - 1}"
        )
    wanted = {"scale": isinstance(logits, FedRsLogitsConfig), "weight": weighted}
    wanted["offset"] = corrected and not wanted["scale"]
    parts = tuple(part for part in ("scale", "offset", "weight") if wanted[part])
    # In all engines the same operations: torch's own kernel and the elementary one differ in the last bits.
    return BalancedLoss(row_cross_entropy if loss is cross_entropy else loss, parts, classes, weights, logits)


def class_weights(config: ClassWeightsConfig, own: Int64, population: Int64 | None) -> Float64:
    """What a sample of each class counts, `[K, classes]` or `[classes]`.

    Weights made from counts are scaled so that the samples that were counted weigh 1 on average: the learning rate
    means what it meant. A class that was not seen weighs nothing.
    """
    if isinstance(config, ExplicitClassWeightsConfig):
        return np.array([config.table.get(one, config.default) for one in range(own.shape[1])])
    if isinstance(config, EqualClassesConfig):
        return np.ones(own.shape)
    counts = (own if config.scope == "client" else _known(population)).astype(np.float64)
    if isinstance(config, InverseWeightsConfig):
        size = counts
    else:
        assert isinstance(config, EffectiveWeightsConfig)
        size = (1 - config.beta**counts) / (1 - config.beta)
    raw = np.divide(1.0, size, out=np.zeros_like(size), where=counts > 0)
    mean = (raw * counts).sum(-1, keepdims=True) / np.maximum(counts.sum(-1, keepdims=True), 1)
    scaled: Float64 = np.divide(raw, mean, out=np.zeros_like(raw), where=mean > 0)
    return scaled


def offsets(config: LogitsConfig, own: Int64, population: Int64 | None) -> Float64:
    """What is added to logits, `[K, classes]` or `[classes]`.

    Logit adjustment: tau · log π (Menon et al. 2021, equation 10), with the shares π of the federation's labels; a
    class without samples counts as half a sample. FedLC: −tau · n^(−1/4) (Zhang et al. 2022, section 4), in a softmax
    over all classes as in all public implementations; the paper's leaves the target out, which has no lower bound.
    """
    if isinstance(config, AdjustedLogitsConfig):
        counts = np.maximum(_known(population).astype(np.float64), 0.5)
        adjusted: Float64 = config.tau * np.log(counts / counts.sum())
        return adjusted
    assert isinstance(config, FedLcLogitsConfig)
    calibrated: Float64 = -config.tau * np.maximum(own.astype(np.float64), NONE_AT_ALL) ** -0.25
    return calibrated


def restricted(config: LogitsConfig, own: Int64) -> Float64:
    """Scales of logits, `[K, classes]`: 1 of the client's own classes, alpha of the others (Li & Zhan 2021)."""
    assert isinstance(config, FedRsLogitsConfig)
    return np.where(own > 0, 1.0, config.alpha)


def _known(population: Int64 | None) -> Int64:
    assert population is not None, "a loss that needs the federation's counts declares it"
    return population


def _name(key: str, training: TrainingConfig) -> str:
    return training.logits.name if key == "training.logits" else training.class_weights.name
