"""Stages of differential privacy: clips whose bound is not one fixed number, and noise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysim.config.base import Section

Multiplier = Annotated[float, Field(gt=0, le=1e6)]


class AdaptiveClipStageConfig(Section):
    """Scale what a client sends down to a bound that follows a quantile of the clients' norms (Andrew et al. 2021)."""

    name: Literal["adaptive_clip"] = "adaptive_clip"
    initial_norm: float = Field(0.1, gt=0)
    """The bound of the first round."""
    quantile: float = Field(0.5, gt=0, lt=1)
    """Share of clients γ whose norms shall be below the bound."""
    learning_rate: float = Field(0.2, gt=0, le=10)
    """Step size η of the bound: a factor exp(-η (share below - γ)) a round."""
    fraction_noise: float = Field(0.05, ge=0, le=1e3)
    """Standard deviation of the noise on the share of clients below the bound, σ_b over the expected cohort. Without
    noise, 0, the share is a release that nothing protects, and noise on the update is refused."""
    generator: Literal["keyed", "system"] = "keyed"
    """Where the noise comes from: the experiment's seed, or the operating system, so that no run can be repeated."""


class LayerClipStageConfig(Section):
    """Scale the update of each layer down to an L2 norm of its own."""

    name: Literal["layer_clip"] = "layer_clip"
    max_norm: float | None = Field(None, gt=0)
    """The largest norm S of the whole update, shared equally by the L parameters of the model: S/√L each; or give
    `bounds`."""
    bounds: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """The largest norm of each group of parameters, by patterns of their names: `{"fc1.*": 0.5, "*": 0.2}`. The first
    pattern that matches a parameter counts."""


class NoiseConfig(Section):
    """Noise that is drawn with NumPy, whose version is part of what the bits depend on."""


class GaussianStageConfig(NoiseConfig):
    """Take the sum over a fixed denominator, the weight that a cohort has on average, and add Gaussian noise to it."""

    name: Literal["gaussian"] = "gaussian"
    noise_multiplier: Multiplier
    """Standard deviation z of the noise on the sum, in units of the clip's bound."""
    generator: Literal["keyed", "system"] = "keyed"
    """Where the noise comes from: the experiment's seed, or the operating system, so that no run can be repeated."""


class TreeStageConfig(NoiseConfig):
    """As gaussian, with noise from binary trees over the rounds (DP-FTRL, Kairouz et al. 2021)."""

    name: Literal["tree"] = "tree"
    noise_multiplier: Multiplier
    """Standard deviation z of each node of a tree, in units of the clip's bound."""
    restart: int | None = Field(None, ge=2)
    """Rounds of a tree, after which another begins; by default one tree has all rounds."""


class BsrStageConfig(NoiseConfig):
    """As gaussian, with noise correlated by the banded square root (Kalinin & Lampert 2024)."""

    name: Literal["bsr"] = "bsr"
    noise_multiplier: Multiplier
    """Standard deviation z of the independent noise Z in C⁻¹Z, in units of the clip's bound."""
    bands: int = Field(8, ge=2, le=1000)
    """Bands of C: the server keeps as many vectors of the model's size, less one."""
    generator: Literal["keyed", "system"] = "keyed"
    """Where the noise comes from: the experiment's seed, or the operating system, so that no run can be repeated."""


class BltStageConfig(NoiseConfig):
    """As gaussian, with noise correlated by a buffered linear Toeplitz matrix (McMahan, Xu & Zhang 2024)."""

    name: Literal["blt"] = "blt"
    noise_multiplier: Multiplier
    """Standard deviation z of the independent noise Z in C⁻¹Z, in units of the clip's bound."""
    buffers: int = Field(4, ge=1, le=16)
    """Vectors of the model's size that the server keeps, at most, where the matrix is to be found."""
    output_scale: tuple[float, ...] | None = None
    """ω of each buffer; with `buf_decay`, by default, of the matrix whose largest error over the run is least."""
    buf_decay: tuple[float, ...] | None = None
    """θ of each buffer."""
    generator: Literal["keyed", "system"] = "keyed"
    """Where the noise comes from: the experiment's seed, or the operating system, so that no run can be repeated."""


class LocalGaussianStageConfig(NoiseConfig):
    """Each client adds Gaussian noise to all that it sends: local differential privacy."""

    name: Literal["local_gaussian"] = "local_gaussian"
    noise_multiplier: Multiplier
    """Standard deviation of the noise on each value, in units of the clip's bound."""


class LocalLaplaceStageConfig(NoiseConfig):
    """Each client adds Laplace noise to all that it sends; the clip before it bounds the sum of magnitudes."""

    name: Literal["local_laplace"] = "local_laplace"
    noise_multiplier: Multiplier
    """Scale of the noise on each value, in units of the clip's bound."""


class DistributedNoiseConfig(NoiseConfig):
    """Noise on integers under secure aggregation, of which each client adds a share."""

    noise_multiplier: Multiplier
    """Standard deviation of the noise on a sum, in units of the largest norm of a client's integers."""
    shares: float = Field(0.6, gt=0, le=1)
    """Share of the cohort whose noise together is all of it; at most `aggregation.protection.threshold`, below which no
    sum is opened. If more clients send, there is more noise."""


class DiscreteGaussianStageConfig(DistributedNoiseConfig):
    """Each client adds discrete Gaussian noise to its integers (Kairouz, Liu & Steinke 2021)."""

    name: Literal["discrete_gaussian"] = "discrete_gaussian"


class SkellamStageConfig(DistributedNoiseConfig):
    """Each client adds Skellam noise, a difference of two Poisson numbers, to its integers (Agarwal et al. 2021)."""

    name: Literal["skellam"] = "skellam"
