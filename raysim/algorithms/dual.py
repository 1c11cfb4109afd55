"""Linear models by their dual: clients solve for the dual variables of their own samples.

Jaggi, Smith, Takáč, Terhorst, Krishnan, Hofmann & Jordan, "Communication-Efficient Distributed Dual Coordinate Ascent"
(CoCoA), NeurIPS 2014, and Smith, Forte, Ma, Takáč, Jordan & Jaggi, "CoCoA: A General Framework for Communication-
Efficient Distributed Optimization", JMLR 2018, algorithm 1 (CoCoA+: Ma et al. 2015), for

    P(w) = 1/n Σ_i ℓ_i(x_iᵀw) + λ/2 ‖w‖²,    D(α) = -1/n Σ_i ℓ_i*(-α_i) - λ/2 ‖w(α)‖²,    w(α) = Σ_i α_i x_i / (λn).

A client raises its part of D by coordinate ascent (SDCA: Shalev-Shwartz & Zhang 2013) on the quadratic subproblem with
σ' in place of what the others do, then α_k ← α_k + γ Δα_k and w ← w + γ Σ_k Δw_k: adding takes γ = 1 and σ' = K,
averaging γ = 1/K and σ' = 1, for K clients a round. α is kept by the clients, one number for each sample and output;
outputs are problems of their own (one against all, for classes). A bias is the weight of a feature that is always 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, ClientVector
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.algorithms import CocoaConfig
from raysim.config.client import ClientConfig, OptimizerConfig
from raysim.config.server import SamplesWeightsConfig
from raysim.errors import ConfigError
from raysim.training import Batch, Clients, LocalWork, ParameterLayout

Step = Callable[[Float64, Float64, Float64, float], Float64]
"""(target, output, α, q) to the α that maximises -ℓ*(-α') - (α' - α) output - q/2 (α' - α)², each `[m]`."""


def squared(target: Float64, output: Float64, dual: Float64, q: float) -> Float64:
    """ℓ(a) = (a - y)² / m, the mean over the m outputs: ℓ*(-α) = m α²/4 - α y."""
    half = len(target) / 2
    return dual + (target - output - half * dual) / (half + q)


def hinge(target: Float64, output: Float64, dual: Float64, q: float) -> Float64:
    """ℓ(a) = max(0, 1 - y a), y = ±1: ℓ*(-α) = -y α for y α in [0, 1]."""
    moved: Float64 = target * np.clip(target * dual + (1 - target * output) / max(q, 1e-12), 0.0, 1.0)
    return moved


def logistic(target: Float64, output: Float64, dual: Float64, q: float) -> Float64:
    """ℓ(a) = log(1 + exp(-y a)), y = ±1: ℓ*(-α) = b log b + (1-b) log(1-b), b = y α in (0, 1).

    By Newton's method, kept in a bracket, for t + y a + q (b(t) - b) = 0 with b(t) = 1 / (1 + exp(-t)).
    """
    margin, before = target * output, target * dual
    low, high = -margin - q * (1 - before), -margin + q * before
    t = (low + high) / 2
    for _ in range(60):
        b = _sigmoid(t)
        rest = t + margin + q * (b - before)
        if np.abs(rest).max() <= 1e-13 * (1 + q):
            break
        low, high = np.where(rest > 0, low, t), np.where(rest > 0, t, high)
        t = t - rest / (1 + q * b * (1 - b))
        t = np.where((t > low) & (t < high), t, (low + high) / 2)
    return target * _sigmoid(t)


STEPS: Mapping[str, Step] = {"squared": squared, "logistic": logistic, "hinge": hinge}


class Cocoa(Algorithm):
    """Dual coordinate ascent on each client's samples: w ← w + γ Σ_k Δw_k, Δw_k = Σ_i Δα_i x_i / (λn)."""

    paper = "Smith et al. 2018, arXiv:1611.02189"
    columnwise = False

    def __init__(self, config: CocoaConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        assert config.samples is not None, "made concrete where the data are known"
        assert config.machines is not None, "made concrete where the data are known"
        self.largest, self.loss = config.largest or 0, config.loss
        adds = config.combine == "add"
        self.gamma, self.sigma = (1.0, float(config.machines)) if adds else (1 / config.machines, 1.0)
        self.total, self.shrink = config.samples, 1 / (config.l2 * config.samples)
        self.outputs = layout.parameters[0].shape[0]

    def check(self, experiment: Experiment) -> None:
        names, shapes = zip(*((one.name, one.shape) for one in self.layout.segments), strict=True)
        if len(shapes) > 2 or [len(shape) for shape in shapes] != [2, 1][: len(shapes)]:
            raise ConfigError(
                f"algorithm: cocoa is for linear models, a matrix and perhaps a bias; this one has "
                f"{', '.join(names[:8])}; set model to softmax"
            )
        if not isinstance(experiment.aggregation.weights, SamplesWeightsConfig):
            raise ConfigError("aggregation.weights: cocoa adds up what clients come to; set it to samples")
        if experiment.algorithm.server_lr != 1:
            raise ConfigError("algorithm.server_lr: the model would no longer be that of the dual variables; use 1")
        if self.loss == "squared" and experiment.training.loss not in ("auto", "mse"):
            raise ConfigError(f"algorithm.loss: squared is not {experiment.training.loss}; set training.loss to mse")

    def work(self, client: ClientConfig) -> LocalWork:
        return LocalWork(1, client.epochs, client.steps)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        return None

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("dual", self.largest * self.outputs),)

    def first_model(self, model: Float32) -> Float32:
        return np.zeros_like(model)  # w(0)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        losses = np.zeros(c.k)
        weights = self._matrix(c.broadcast)
        for i, (batch, order) in enumerate(c.whole_shards()):
            x, targets = self._features(batch.x), self._targets(batch)
            kept = c.state["dual"][i, : targets.size]
            before = kept.cpu().numpy().astype(np.float64).reshape(targets.shape)
            dual, reached = before.copy(), weights.copy()
            pull = self.sigma * self.shrink
            curvature = pull * np.square(x).sum(axis=1)
            for one in order.tolist():
                output = (reached * x[one]).sum(axis=1)
                losses[i] += self._loss(targets[one], output)
                moved = STEPS[self.loss](targets[one], output, dual[one], curvature[one])
                reached += pull * np.outer(moved - dual[one], x[one])
                dual[one] = moved
            after = (before + self.gamma * (dual - before)).astype(np.float32)
            kept.copy_(torch.from_numpy(after.ravel()))
            change = np.stack([(x * column[:, None]).sum(axis=0) for column in (after - before).T])
            self._place(c.rows[i], self.shrink * change)
        c.record(losses)
        return self.send(c)

    def fields(self) -> tuple[Field, ...]:
        return (Field("update", self.layout.size, summed=True),)

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        """Δw_k over the client's weight p_k = n_k / Σ n_k: the weighted sum is that of all Δw_k."""
        cohort = self.total * c.setting.participation
        factor = np.where(c.samples > 0, cohort / np.maximum(c.samples, 1), 0.0)
        return {"update": c.rows.mul_(torch.from_numpy(factor).to(c.rows)[:, None])}

    def init(self, model: Float32) -> dict[str, Float64]:
        return {"primal": model.astype(np.float64)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        primal = state["primal"] + mean["update"]
        return primal.astype(np.float32), {"primal": primal}

    def _features(self, x: Tensor) -> Float64:
        """Features `[n, d]`, and a column of ones where the model has a bias."""
        flat = x.flatten(1).cpu().numpy().astype(np.float64)
        return np.c_[flat, np.ones(len(flat))] if len(self.layout.parameters) > 1 else flat

    def _targets(self, batch: Batch) -> Float64:
        """Targets `[n, m]`: ±1 for classes.

        Raises:
            ValueError: samples have weights.
        """
        if batch.weight is not None:
            raise ValueError("cocoa takes samples of equal weight")
        y = batch.y.cpu().numpy()
        if self.loss == "squared":
            return y.astype(np.float64).reshape(len(y), self.outputs)
        if self.outputs == 1:
            return (2.0 * y - 1).reshape(len(y), 1)
        return np.where(y[:, None] == np.arange(self.outputs), 1.0, -1.0)

    def _loss(self, target: Float64, output: Float64) -> float:
        if self.loss == "squared":
            return float(np.square(output - target).mean())
        margin = target * output
        losses = np.maximum(1 - margin, 0) if self.loss == "hinge" else np.logaddexp(0.0, -margin)
        return float(losses.sum())

    def _matrix(self, row: Tensor) -> Float64:
        """A model's weights `[m, d]`, with its bias as the last column."""
        views = self.layout.views(row).values()
        return np.concatenate([one.reshape(self.outputs, -1).cpu().numpy() for one in views], axis=1).astype(np.float64)

    def _place(self, row: Tensor, matrix: Float64) -> None:
        row.zero_()
        start = 0
        for view in self.layout.views(row).values():
            size = view.numel() // self.outputs
            view.copy_(torch.from_numpy(matrix[:, start : start + size]).reshape(view.shape))
            start += size


def _sigmoid(t: Float64) -> Float64:
    found: Float64 = np.exp(-np.logaddexp(0.0, -t))
    return found
