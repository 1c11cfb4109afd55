"""Noise that the server adds to the sum of a round: the Gaussian mechanism, independent from round to round.

McMahan, Ramage, Talwar & Zhang, "Learning Differentially Private Recurrent Language Models", ICLR 2018 (DP-FedAvg,
DP-FedSGD), with the estimator of fixed denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import ClassVar

import numpy as np

from raysim import keyed
from raysim.aggregation import Field, MeanContext, Mechanism, Setting, UpdateStage
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float32, Float64
from raysim.errors import ConfigError
from raysim.privacy.drawing import INEXACT, Generator, columns_of, normal, without_padding
from raysim.privacy.refusals import check_private

Draw = Callable[..., Float64]
"""Standard normal numbers in the columns of a call, by a key."""


class CentralNoise(UpdateStage):
    """Divides the sum by a denominator that no client changes, and adds noise: x ← Σ w_k x_k / W + (z S / W) ẑ.

    S is the L2 bound of a record, W the sum of weights that a cohort has on average, z the noise multiplier, ẑ noise of
    standard deviation 1, or a combination of such over the rounds. Noise is drawn in rounds without clients, too. Where
    an adaptive clip of the chain releases the share of short records, z is what is left for the records (see
    `AdaptiveClip`).
    """

    roads = frozenset({"sum", "modular"})
    needs = frozenset({"bounded", "bounded_weights", "memoryless"})
    every_round = True
    fixed = True
    metrics = ("deviation",)

    generator: Generator = "keyed"
    purpose: ClassVar[keyed.Purpose] = keyed.Purpose.NOISE

    def __init__(self, columns: ModelColumns, noise_multiplier: float, mechanism: Mechanism) -> None:
        super().__init__(columns)
        self._multiplier, self.mechanism = noise_multiplier, mechanism

    def check(self, setting: Setting) -> None:
        check_private(setting.experiment, setting.fields, self.columns)
        remaining(self._multiplier, setting.spent)

    def init(self, model: Float32) -> Mapping[str, Float64]:
        names = self._kept()
        return {f"{field.name}.{name}": np.zeros(field.size) for field in self._fields() for name in names}

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        assert ctx.bound is not None, "checked when the chain was built"
        deviation = remaining(self._multiplier, ctx.spent) * ctx.noise * ctx.bound.norm / ctx.expected_weight
        found: dict[str, Float64] = dict(mean)
        after: dict[str, Float64] = {}
        for number, field in enumerate(self._fields()):
            own = {name: state[f"{field.name}.{name}"] for name in self._kept()}
            noise, kept = self._noise(ctx.round, self._draw(ctx, number, field), own)
            found[field.name] = mean[field.name] * ctx.arrived + deviation * noise
            after |= {f"{field.name}.{name}": vector for name, vector in kept.items()}
        return found, after, {"deviation": deviation}

    def _noise(
        self, round_number: int, draw: Draw, state: Mapping[str, Float64]
    ) -> tuple[Float64, Mapping[str, Float64]]:
        """The noise ẑ of a round for one field, and the next state of the vectors that it keeps."""
        return draw(round_number), {}

    def _kept(self) -> Sequence[str]:
        """Names of the vectors, of the size of a field, that it keeps from round to round."""
        return ()

    def _fields(self) -> list[Field]:
        return [field for field in self.sent if not field.constant]

    def _draw(self, ctx: MeanContext, number: int, field: Field) -> Draw:
        columns = columns_of(field.size, ctx.columns, self.columns)

        def draw(*key: int) -> Float64:
            drawn = normal(self.generator, ctx.seed, self.purpose, (number, *key), columns)
            return without_padding(drawn, field.size, columns, self.columns)

        return draw


class Gaussian(CentralNoise):
    """The Gaussian mechanism: noise N(0, (z S / W)²) on every value, independent from round to round."""

    def __init__(self, columns: ModelColumns, noise_multiplier: float, generator: Generator = "keyed") -> None:
        super().__init__(columns, noise_multiplier, Mechanism("gaussian", noise_multiplier))
        self.generator = generator
        self.inexact = INEXACT if generator == "system" else None


def remaining(multiplier: float, spent: float) -> float:
    """The noise multiplier z_Δ of the records where other releases of the round spend a part: z⁻² = z_Δ⁻² + Σ z_b⁻².

    Andrew, Thakkar, McMahan & Ramaswamy, "Differentially Private Learning with Adaptive Clipping", NeurIPS 2021,
    theorem 1.

    Args:
        multiplier: z, of all releases of a round together.
        spent: Σ z_b⁻² of the others.

    Raises:
        ConfigError: they spend all of it.
    """
    left = multiplier**-2 - spent
    if left <= 0:
        raise ConfigError(
            f"noise_multiplier {multiplier:g} is used up by the share of short records that the adaptive clip releases "
            "in this cohort; raise fraction_noise, or the cohort"
        )
    return 1 / sqrt(left)
