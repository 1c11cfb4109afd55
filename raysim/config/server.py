"""The `aggregation` and `selection` sections: how updates become one, and who is asked for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section


class UniformWeights(Section):
    """Every client counts the same."""

    name: Literal["uniform"] = "uniform"


class SamplesWeights(Section):
    """A client counts by its number of training samples (McMahan et al. 2017)."""

    name: Literal["samples"] = "samples"


class LossWeights(Section):
    """A client counts in proportion to the broadcast model's mean loss on its training samples, or to 1/loss."""

    name: Literal["loss", "inverse_loss"] = "loss"
    low: float = Field(1e-2, gt=0)
    """Losses below are raised to this; such clamps are counted in the metrics."""
    high: float = Field(10.0, gt=0)
    """Losses above are lowered to this."""

    @model_validator(mode="after")
    def _ordered(self) -> LossWeights:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.high > 1e6 * self.low:
            raise ValueError(
                f"high ({self.high}) must be at most 1e6 times low ({self.low}): sums have 52 fraction bits"
            )
        return self


class ExplicitWeights(Section):
    """A table of weights, by client id: `{0: 0.6, 1: 0.4}`."""

    name: Literal["explicit"] = "explicit"
    table: dict[int, Annotated[float, Field(ge=0)]]
    """Weight of each client; normalised over the round's cohort."""
    default: float = Field(0.0, ge=0)
    """Weight of a client that the table does not name."""

    @model_validator(mode="after")
    def _somebody_counts(self) -> ExplicitWeights:
        if self.default == 0 and not any(self.table.values()):
            raise ValueError("nobody has weight; give a client of table, or default, one above 0")
        return self


WeightsConfig = Annotated[
    Annotated[UniformWeights, Tag("uniform")]
    | Annotated[SamplesWeights, Tag("samples")]
    | Annotated[LossWeights, Tag("loss")]
    | Annotated[LossWeights, Tag("inverse_loss")]
    | Annotated[ExplicitWeights, Tag("explicit")],
    BY_NAME,
    SHORTHAND,
]


class AggregationConfig(Section):
    """How the clients' updates become one."""

    weights: WeightsConfig = SamplesWeights()
    """How much each client counts; always normalised to sum to 1."""
    exact: bool = True
    """Sums in 64-bit fixed point, which cannot depend on who trains whom. False: in float32, half the bytes, and the
    last bits of the result depend on it."""
    fan_in: int = Field(8, ge=2)
    """Partial sums that one reducer adds at a time when they come from several nodes."""


class Uniform(Section):
    """`cohort` different clients, each subset equally likely."""

    name: Literal["uniform"] = "uniform"


class Poisson(Section):
    """Every client by itself with probability cohort / population: the cohort's size varies and may be zero."""

    name: Literal["poisson"] = "poisson"


SelectionConfig = Annotated[Annotated[Uniform, Tag("uniform")] | Annotated[Poisson, Tag("poisson")], BY_NAME, SHORTHAND]
