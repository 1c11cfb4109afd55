"""Clipping to a quantile of the norms, which is estimated with privacy as the run goes on.

Andrew, Thakkar, McMahan & Ramaswamy, "Differentially Private Learning with Adaptive Clipping", NeurIPS 2021,
algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, inf
from typing import Any

import numpy as np
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Bound, Field, MeanContext, SendContext, UpdateStage
from raysim.aggregation.norms import clip, column, of_data, without
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float32, Float64
from raysim.privacy.drawing import INEXACT, Generator, normal

_ONE = slice(0, 1)


class AdaptiveClip(UpdateStage):
    """Scales records down to a bound C that follows a quantile of their norms: C ← C exp(-η (b̃ - γ)).

    b̃ is the share of records that are no longer than C, with noise: each client sends b - ½ (±½), of which the server
    takes Σ w_k (b_k - ½) / W + ½ + N(0, (σ_b / W)²). That is a release of noise multiplier 2 σ_b beside the update's.
    The clients get C with the model.
    """

    roads = frozenset({"sum", "modular"})
    needs = frozenset({"bounded_weights"})
    gives = frozenset({"bounded"})
    breaks = frozenset({"steady"})
    fixed = True
    broadcast = ("bound",)
    metrics = ("bound", "below")

    def __init__(
        self,
        columns: ModelColumns,
        initial_norm: float = 0.1,
        quantile: float = 0.5,
        learning_rate: float = 0.2,
        fraction_noise: float = 0.05,
        generator: Generator = "keyed",
    ) -> None:
        super().__init__(columns)
        self._initial, self._quantile, self._rate = initial_norm, quantile, learning_rate
        self._noise, self._generator = fraction_noise, generator
        self.inexact = INEXACT if generator == "system" else None

    def bound(self, outer: Bound | None, server: Mapping[str, Any]) -> Bound:
        return Bound(float(server["bound"][0]))

    def spent(self, expected_weight: float) -> float:
        return inf if self._noise == 0 else (2 * self._noise * expected_weight) ** -2

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        return (*sent, Field(f"{self.label}.below", 1, constant=True))

    def init(self, model: Float32) -> Mapping[str, Float64]:
        return {"bound": np.array([np.float32(self._initial)], dtype=np.float64)}

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        _, long = clip(sent, of_data(ctx.fields), float(ctx.server["bound"][0]))
        return {**sent, f"{self.label}.below": column(0.5 - long, sent)}

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        rest, below = without(mean, f"{self.label}.below")
        drawn = float(normal(self._generator, ctx.seed, keyed.Purpose.FRACTION_NOISE, (ctx.round,), _ONE)[0])
        share = 0.5 + below * ctx.arrived + self._noise * ctx.noise * drawn
        bound = float(state["bound"][0])
        after = np.float32(bound * exp(-self._rate * (share - self._quantile)))  # what clients get of it is float32
        return rest, {"bound": np.array([after], dtype=np.float64)}, {"bound": bound, "below": share}
