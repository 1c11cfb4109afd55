"""Server optimisers on the averaged update Δ = Σ p_k (w_k - w).

- FedAvgM: Hsu, Qi & Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
  Classification", 2019, section 4.3: v ← βv + Δ, w ← w + ηv.
- DiLoCo: Douillard, Feng, Rusu, Chhaparia, Donchev, Kuncoro, Ranzato, Szlam & Shen, "DiLoCo: Distributed
  Low-Communication Training of Language Models", 2023, algorithm 1: the outer gradient -Δ goes through SGD with
  Nesterov momentum, m ← βm + Δ, w ← w + η(Δ + βm).
- FedAdagrad, FedAdam, FedYogi: Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar & McMahan, "Adaptive Federated
  Optimization", ICLR 2021, algorithm 2: `raysim.aggregation.ServerAdaptive`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from raysim.aggregation import ServerAdaptive
from raysim.algorithms.base import Algorithm
from raysim.arrays import Float32, Float64
from raysim.config.server_optimizers import AdaptiveConfig, DiLoCoConfig
from raysim.training import ParameterLayout


class FedAvgM(Algorithm):
    """FedAvg with server momentum: v ← βv + Δ, w ← w + ηv."""

    paper = "Hsu et al. 2019, arXiv:1909.06335"
    neutral = ("algorithm.server_momentum=0",)


class DiLoCo(Algorithm):
    """FedAvg with Nesterov momentum on the server: m ← βm + Δ, w ← w + η(Δ + βm)."""

    paper = "Douillard et al. 2023, arXiv:2311.08105"
    neutral = ("algorithm.server_lr=1", "algorithm.server_momentum=0")

    def __init__(self, config: DiLoCoConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.server = replace(self.server, nesterov=True)


class _Adaptive(Algorithm):
    """w ← w + η·m / (√v + τ) with the moments of the averaged update."""

    paper = "Reddi et al. 2021, arXiv:2003.00295"
    kind: ClassVar[Literal["adagrad", "adam", "yogi"]]

    def __init__(self, config: AdaptiveConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        beta2 = getattr(config, "beta2", 1.0)  # adagrad has none
        self.adaptive = ServerAdaptive(self.kind, config.server_lr, config.beta1, beta2, config.tau, layout.trainable)

    def init(self, model: Float32) -> dict[str, Float64]:
        return self.adaptive.init()

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        return self.adaptive.step(model, state, mean["update"])


class FedAdagrad(_Adaptive):
    """Adagrad on the server: steps shrink where updates were large, v ← v + Δ²."""

    kind = "adagrad"
    neutral = ("algorithm.beta1=0", "algorithm.tau=1e4", "algorithm.server_lr=2e4")


class FedAdam(_Adaptive):
    """Adam on the server: v ← β2·v + (1-β2)·Δ²."""

    kind = "adam"
    neutral = ("algorithm.beta1=0", "algorithm.beta2=1", "algorithm.tau=1e4", "algorithm.server_lr=2e4")


class FedYogi(_Adaptive):
    """Yogi on the server, whose second moment changes additively: v ← v - (1-β2)·Δ²·sign(v - Δ²)."""

    kind = "yogi"
    neutral = ("algorithm.beta1=0", "algorithm.beta2=1", "algorithm.tau=1e4", "algorithm.server_lr=2e4")
