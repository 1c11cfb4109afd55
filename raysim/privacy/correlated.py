"""Noise that is correlated over rounds, so that it cancels in the sum of all updates: DP-FTRL without amplification.

Each round's noise is a row of C⁻¹Z, with Z independent normal numbers: binary trees (Kairouz, McMahan, Song, Thakkar,
Thakurta & Xu, "Practical and Private (Deep) Learning without Sampling or Shuffling", ICML 2021), the banded square
root, and buffered linear Toeplitz matrices (`raysim.privacy.factorisation`). What a client can do to all rounds
together depends on how often it comes, so that the sampler must keep a separation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysim.aggregation import Mechanism, Setting
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.config.noise import BltStageConfig
from raysim.errors import ConfigError
from raysim.privacy.blt import optimal_blt
from raysim.privacy.central import CentralNoise, Draw
from raysim.privacy.drawing import INEXACT, Generator
from raysim.privacy.factorisation import banded_square_root
from raysim.privacy.sampling import sampling_of


class Correlated(CentralNoise):
    """Noise that is correlated over rounds, for samplers that keep clients apart."""

    needs = CentralNoise.needs | {"steady"}

    def check(self, setting: Setting) -> None:
        super().check(setting)
        sampling = sampling_of(setting.experiment, setting.population, setting.cohort)
        if sampling.kind not in ("round_robin", "everyone"):
            raise ConfigError(
                f"selection {setting.experiment.selection.name} lets a client come back in the next round, so that "
                "nothing bounds what it does to noise that is correlated over rounds; set selection to round_robin, or "
                "use gaussian"
            )


class TreeNoise(Correlated):
    """Binary trees of noise: the sum of t rounds has the noise of the nodes that make up t, at most log₂ t + 1 of them.

    A round's noise is that of the node which it completes, less that of the nodes which this one replaces. Nodes are
    drawn again by their keys, so that nothing is kept.
    """

    def __init__(self, columns: ModelColumns, noise_multiplier: float, restart: int | None = None) -> None:
        super().__init__(columns, noise_multiplier, Mechanism("tree", noise_multiplier, restart=restart))
        self._restart = restart

    def _noise(
        self, round_number: int, draw: Draw, state: Mapping[str, Float64]
    ) -> tuple[Float64, Mapping[str, Float64]]:
        tree, number = 0, round_number
        if self._restart is not None:
            tree, number = divmod(round_number - 1, self._restart)
            number += 1
        level = (number & -number).bit_length() - 1
        noise = draw(tree, level, number >> level)
        for lower in range(level):
            noise = noise - draw(tree, lower, (number - 1) >> lower)
        return noise, {}


class BandedNoise(Correlated):
    """The banded square root: C has the first bands of the square root of A. Keeps bands - 1 vectors a field."""

    def __init__(
        self, columns: ModelColumns, noise_multiplier: float, bands: int, generator: Generator = "keyed"
    ) -> None:
        self._coefficients = tuple(banded_square_root(bands).tolist())
        mechanism = Mechanism("banded", noise_multiplier, coefficients=self._coefficients)
        super().__init__(columns, noise_multiplier, mechanism)
        self.generator, self.inexact = generator, INEXACT if generator == "system" else None

    def _kept(self) -> Sequence[str]:
        return [f"noise{i}" for i in range(len(self._coefficients) - 1)]

    def _noise(
        self, round_number: int, draw: Draw, state: Mapping[str, Float64]
    ) -> tuple[Float64, Mapping[str, Float64]]:
        noise, ring = draw(round_number), len(self._coefficients) - 1
        for back in range(1, ring + 1):
            noise = noise - self._coefficients[back] * state[f"noise{(round_number - back) % ring}"]
        return noise, {**state, f"noise{round_number % ring}": noise}


class BltNoise(Correlated):
    """A buffered linear Toeplitz matrix: C has the coefficients 1, then Σ ω θ^(i-1). Keeps a vector a buffer and field.

    ẑ = z - Σ ωᵢ sᵢ, then sᵢ ← θᵢ sᵢ + ẑ (Dvijotham et al. 2024).
    """

    def __init__(
        self,
        columns: ModelColumns,
        noise_multiplier: float,
        buffers: int = 4,
        output_scale: Sequence[float] | None = None,
        buf_decay: Sequence[float] | None = None,
        generator: Generator = "keyed",
    ) -> None:
        """The matrix of a configuration that `with_matrices` has completed.

        Raises:
            ConfigError: the two are not of one length, or not those of a matrix whose coefficients fall.
        """
        scale, decay = tuple(output_scale or ()), tuple(buf_decay or ())
        if len(scale) != len(decay) or not scale:
            raise ConfigError("expected as many output_scale as buf_decay, at least one")
        if min(scale) < 0 or sum(scale) > 1 or not all(0 <= one <= 1 for one in decay):
            raise ConfigError("expected output_scale from 0 on, of sum at most 1, and buf_decay in [0, 1]")
        super().__init__(
            columns, noise_multiplier, Mechanism("blt", noise_multiplier, output_scale=scale, buf_decay=decay)
        )
        self._scale, self._decay = scale, decay
        self.generator, self.inexact = generator, INEXACT if generator == "system" else None

    def _kept(self) -> Sequence[str]:
        return [f"buffer{i}" for i in range(len(self._scale))]

    def _noise(
        self, round_number: int, draw: Draw, state: Mapping[str, Float64]
    ) -> tuple[Float64, Mapping[str, Float64]]:
        noise = draw(round_number)
        for i, scale in enumerate(self._scale):
            noise = noise - scale * state[f"buffer{i}"]
        return noise, {f"buffer{i}": decay * state[f"buffer{i}"] + noise for i, decay in enumerate(self._decay)}


def with_matrices(experiment: Experiment, population: int, cohort: int) -> Experiment:
    """The experiment with the matrix of least error for its rounds and its sampler, where `blt` leaves it open.

    Args:
        population, cohort: clients of the federation, and of a round on average.

    Raises:
        ConfigError: there is none.
    """
    stages = experiment.aggregation.stages
    if not any(_open(one) for one in stages):
        return experiment
    recurrence = sampling_of(experiment, population, cohort).recurrence(experiment.rounds)
    values = experiment.to_dict()
    for i, one in enumerate(stages):
        if not isinstance(one, BltStageConfig) or not _open(one):
            continue
        try:
            found = optimal_blt(experiment.rounds, one.buffers, recurrence.separation, recurrence.most)
        except ConfigError as error:
            raise ConfigError(f"aggregation.stages[{i}]: blt: {error}") from None
        values["aggregation"]["stages"][i] |= {
            "output_scale": list(found.output_scale),
            "buf_decay": list(found.buf_decay),
        }
    return Experiment.parse(values)


def _open(stage: Any) -> bool:
    return isinstance(stage, BltStageConfig) and stage.output_scale is None and stage.buf_decay is None
