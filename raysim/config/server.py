"""The `aggregation` and `selection` sections: how updates are combined, and which clients take part."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, CustomConfig, ImportString, Section
from raysim.config.bounds import BYTES
from raysim.config.protection import NoProtectionConfig, ProtectionConfig
from raysim.config.stages import StageConfig


class UniformWeightsConfig(Section):
    """Every client counts the same."""

    name: Literal["uniform"] = "uniform"


class SamplesWeightsConfig(Section):
    """A client counts by its number of training samples (McMahan et al. 2017)."""

    name: Literal["samples"] = "samples"
    cap: int | None = Field(None, ge=1)
    """Samples from which on a client counts no more: min(n / cap, 1). What weights under differential privacy need."""


class LossWeightsConfig(Section):
    """A client counts in proportion to the broadcast model's mean loss on its training samples, or to 1/loss."""

    name: Literal["loss", "inverse_loss"] = "loss"
    low: float = Field(1e-2, gt=0)
    """Losses below are raised to this; such clamps are counted in the metrics."""
    high: float = Field(10.0, gt=0)
    """Losses above are lowered to this."""

    @model_validator(mode="after")
    def _ordered(self) -> LossWeightsConfig:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.high > 1e6 * self.low:
            raise ValueError(
                f"high ({self.high}) must be at most 1e6 times low ({self.low}): sums have 52 fraction bits"
            )
        return self


class ExplicitWeightsConfig(Section):
    """A table of weights, by client id: `{0: 0.6, 1: 0.4}`."""

    name: Literal["explicit"] = "explicit"
    table: dict[int, Annotated[float, Field(ge=0)]]
    """Weight of each client; normalised over the round's cohort."""
    default: float = Field(0.0, ge=0)
    """Weight of a client that the table does not name. A round that draws only clients of weight 0 keeps the model."""

    @model_validator(mode="after")
    def _some_client_counts(self) -> ExplicitWeightsConfig:
        if self.default == 0 and not any(self.table.values()):
            raise ValueError("no client has weight; give a client of table, or default, one above 0")
        return self


class LawWeightsConfig(Section):
    """A client counts in proportion to n^samples · exp(-loss · L) · (1 + s)^-staleness.

    n is its number of training samples, L the broadcast model's mean loss on them, s how many server steps old the
    model is that it starts from. As they stand the numbers give `samples` weights.
    """

    name: Literal["law"] = "law"
    samples: float = Field(1.0, ge=-4, le=4)
    """Exponent of the number of samples; 0 counts all clients the same."""
    loss: float = Field(0.0, ge=-20, le=20)
    """Above 0, clients whose samples the model does not fit count less; below 0, more."""
    staleness: float = Field(0.0, ge=0, le=10)
    """Exponent c of the discount (1 + s)^-c on updates that are s server steps old, in asynchronous timetables."""
    low: float = Field(0.0, ge=0)
    """Losses below are raised to this; such clamps are counted in the metrics."""
    high: float = Field(10.0, gt=0)
    """Losses above are lowered to this; and no loss makes a client count less than a millionth of another."""

    @model_validator(mode="after")
    def _ordered(self) -> LawWeightsConfig:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class LearnedWeightsConfig(Section):
    """Weights are learned while the run goes on: every few rounds the cohort's updates are kept one by one, and a study
    finds the weights that make the best model on the server's validation set, without training anything again."""

    name: Literal["learned"] = "learned"
    base: Literal["samples", "uniform"] = "samples"
    """The weights of the rounds between, and what the learned ones must beat."""
    every: int = Field(1, ge=1)
    """Rounds from one to the next."""
    trials: int = Field(48, ge=1)
    """Candidates that the study tries in a round, besides those that need no search."""
    budget: int = Field(1024**3, ge=1, le=BYTES)
    """Bytes that the updates of a round may take."""
    chooser: ImportString = "raysim.tuning.learned:choose"
    """Function that chooses (see `raysim.aggregation.learned.WeightChooser`); a study with Optuna by default."""


WeightsConfig = Annotated[
    Annotated[UniformWeightsConfig, Tag("uniform")]
    | Annotated[SamplesWeightsConfig, Tag("samples")]
    | Annotated[LossWeightsConfig, Tag("loss")]
    | Annotated[LossWeightsConfig, Tag("inverse_loss")]
    | Annotated[ExplicitWeightsConfig, Tag("explicit")]
    | Annotated[LawWeightsConfig, Tag("law")]
    | Annotated[LearnedWeightsConfig, Tag("learned")],
    BY_NAME,
    SHORTHAND,
]


class AggregationConfig(Section):
    """How the clients' updates are combined."""

    weights: WeightsConfig = SamplesWeightsConfig()
    """How much each client counts; always normalised to sum to 1."""
    exact: bool = True
    """Sums in 64-bit fixed point, which do not depend on the assignment of clients to workers. False: float32 sums,
    half the bytes, and last bits that depend on it."""
    stages: tuple[StageConfig, ...] = ()
    """Layers around the sum, outermost first: what a client sends goes through them in this order, the mean back."""
    protection: ProtectionConfig = NoProtectionConfig()
    """How the server is kept from seeing what single clients send; by default it is not."""
    fan_in: int = Field(8, ge=2)
    """Partial sums that one reducer adds at a time when they come from several nodes."""


class UniformConfig(Section):
    """`cohort` different clients, each subset equally likely."""

    name: Literal["uniform"] = "uniform"


class PoissonConfig(Section):
    """Every client by itself with probability cohort / population: the cohort's size varies and may be zero."""

    name: Literal["poisson"] = "poisson"


class RoundRobinConfig(Section):
    """Every client once before any client twice, in one random order that begins again at its end."""

    name: Literal["round_robin"] = "round_robin"


class ClusteredConfig(Section):
    """From each cluster of clients with similar labels, clients in proportion to its size; all equally likely."""

    name: Literal["clustered"] = "clustered"
    clusters: int = Field(10, ge=1)
    """Clusters of the clients' label histograms, as shares, by k-means."""
    iterations: int = Field(100, ge=1)
    """Steps of k-means, at most."""


class PowerOfChoiceConfig(Section):
    """Of some candidates those with the highest loss under the broadcast model (Cho, Wang & Joshi 2022)."""

    name: Literal["power_of_choice"] = "power_of_choice"
    candidates: int | None = Field(None, ge=1)
    """Candidates d, drawn in proportion to their samples; by default twice the cohort, at most all clients. With no
    more than the cohort, losses decide nothing."""


class OortConfig(Section):
    """Clients of high loss that take little time, and a share of new ones (Lai et al. 2021).

    Time is local steps, or with `systems.fleet` the virtual seconds of a client's trip.
    """

    name: Literal["oort"] = "oort"
    exploration: float = Field(0.9, ge=0, le=1)
    """Share ε of the first cohort that has never taken part."""
    exploration_decay: float = Field(0.98, gt=0, le=1)
    """Factor on ε from round to round."""
    exploration_floor: float = Field(0.2, ge=0, le=1)
    """ε does not go below."""
    alpha: float = Field(2.0, ge=0)
    """Power α of the penalty on clients that take more than the preferred time; 0 is none."""
    percentile: float = Field(30.0, ge=0, le=100)
    """The preferred time T at first, as a percentile of all clients'."""
    pacer_step: float = Field(5.0, ge=0, le=100)
    """Percentiles by which T rises when the cohorts' utility falls."""
    window: int = Field(20, ge=1)
    """Rounds whose utilities are summed and compared with those of as many rounds before."""
    cutoff: float = Field(0.95, ge=0, le=1)
    """Clients with at least this share of the utility that a cohort by rank would end with are drawn from."""
    clip: float = Field(95.0, gt=0, le=100)
    """Percentile of the known losses' utilities that none may exceed."""


SelectionConfig = Annotated[
    Annotated[UniformConfig, Tag("uniform")]
    | Annotated[PoissonConfig, Tag("poisson")]
    | Annotated[RoundRobinConfig, Tag("round_robin")]
    | Annotated[ClusteredConfig, Tag("clustered")]
    | Annotated[PowerOfChoiceConfig, Tag("power_of_choice")]
    | Annotated[OortConfig, Tag("oort")]
    | Annotated[CustomConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]
