"""The `tuning` section: what a study varies, its objectives, and how it searches. `raysim run` does not look at it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section
from raysim.config.bounds import SEED, Plain

Number = int | float


class DimensionConfig(Section):
    """What a key may be: a range, or a list of choices."""

    low: Number | None = None
    """Smallest value."""
    high: Number | None = None
    """Largest value, itself included."""
    step: Number | None = Field(None, gt=0)
    """Distance between two values; by default 1 for whole numbers and none for others."""
    log: bool = False
    """Search on a logarithmic scale."""
    choices: tuple[Plain, ...] | None = None
    """Values to choose from, of any kind: numbers, names, whole sections."""
    when: dict[str, Plain] = Field(default_factory=dict)
    """Other keys and the value (or list of values) that each must have for this one to be varied."""

    @model_validator(mode="after")
    def _one_kind(self) -> DimensionConfig:
        if self.choices is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("choices exclude low, high, step and log")
            if len(self.choices) < 2:
                raise ValueError("choices must be at least two; a single value belongs into the experiment itself")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"the range from low {self.low} to high {self.high} is empty; low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, which has no logarithm; raise it above 0, or set log: false")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; remove one")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"step {self.step} is longer than the range from {self.low} to {self.high}")
        return self


class AsConfiguredConfig(Section):
    """The weights are those of `aggregation.weights`."""

    name: Literal["none"] = "none"


class BaseSimplexConfig(Section):
    """What every point on the simplex of aggregation weights takes."""

    coordinates: Literal["auto", "sticks", "logs"] = "auto"
    """How K weights that sum to 1 become numbers in a box: `sticks` breaks a stick in K - 1 places, `logs` normalises
    K values of -log u; both make every point of the simplex equally likely. `auto` is `logs` for CMA-ES, else `sticks`.
    """


class ClientWeightsConfig(BaseSimplexConfig):
    """A weight for each client of the population."""

    name: Literal["clients"] = "clients"


class GroupWeightsConfig(BaseSimplexConfig):
    """A weight for each of the groups that a table lists; within a group clients count by their samples."""

    name: Literal["groups"] = "groups"
    groups: dict[str, tuple[Annotated[int, Field(ge=0)], ...]] = Field(default_factory=dict)
    """Client ids by the name of their group: `{north: [0, 1], south: [2, 3, 4]}`; every client is in one group."""


class ColumnWeightsConfig(BaseSimplexConfig):
    """A weight for each value of a column of a table with a row for each client."""

    name: Literal["column"] = "column"
    path: str
    """CSV or Parquet file with a column `client`: ids, or the natural owners that the clients stand for."""
    column: str
    """Column whose values are the groups."""


class SizeWeightsConfig(BaseSimplexConfig):
    """A weight for each of several groups of clients of similar size: quantiles of the number of samples."""

    name: Literal["sizes"] = "sizes"
    groups: int = Field(4, ge=2)
    """Number of groups."""


class LabelWeightsConfig(BaseSimplexConfig):
    """A weight for each of several groups of clients with similar labels: k-means on the label histograms."""

    name: Literal["labels"] = "labels"
    groups: int = Field(4, ge=2)
    """Number of groups."""


SimplexConfig = Annotated[
    Annotated[AsConfiguredConfig, Tag("none")]
    | Annotated[ClientWeightsConfig, Tag("clients")]
    | Annotated[GroupWeightsConfig, Tag("groups")]
    | Annotated[ColumnWeightsConfig, Tag("column")]
    | Annotated[SizeWeightsConfig, Tag("sizes")]
    | Annotated[LabelWeightsConfig, Tag("labels")],
    BY_NAME,
    SHORTHAND,
]


class ObjectiveConfig(Section):
    """A number that a trial is judged by."""

    metric: str | None = None
    """A recorded metric: `validation/accuracy`, `clients/accuracy/worst10`, …, or a total: `total/bytes` (models sent
    to clients and back), `total/wire_bytes` (their encoded messages), `total/steps`, `total/samples`,
    `total/virtual_seconds`. By default what the server's validation set is judged by."""
    of: Literal["last", "best", "mean", "rounds_to", "bytes_to", "wire_bytes_to", "steps_to", "virtual_seconds_to"] = (
        "last"
    )
    """Of the metric over the rounds: the last value, the best, the mean of the `last` ones; or what it takes until the
    metric reaches `target`: `virtual_seconds@0.9` is short for `{of: virtual_seconds_to, target: 0.9}`."""
    last: int = Field(5, ge=1)
    """Values that the `mean` is taken over."""
    target: float | None = None
    """What must be reached, for `rounds_to` and the others that end in `_to`."""
    direction: Literal["auto", "minimise", "maximise"] = "auto"
    """Which way is better; `auto` knows: losses, errors and totals are small, everything else is large."""

    @model_validator(mode="after")
    def _target_where_one_is_needed(self) -> ObjectiveConfig:
        if self.of.endswith("_to") and self.target is None:
            raise ValueError(f"{self.of} needs a target")
        if not self.of.endswith("_to") and self.target is not None:
            raise ValueError(f"target is only used by rounds_to and others that end in _to, not by {self.of}")
        return self


def _listed(value: Any) -> Any:
    """One objective, or just its metric, where a list is expected."""
    values = value if isinstance(value, list | tuple) else [value]
    return [_spelled(one) if isinstance(one, str) else one for one in values]


def _spelled(short: str) -> dict[str, str]:
    """`wire_bytes@0.9` is what it takes to reach 0.9; anything else is a metric."""
    what, at, target = short.partition("@")
    return {"of": f"{what}_to", "target": target} if at else {"metric": short}


class TpeConfig(Section):
    """Tree-structured Parzen estimator (Bergstra et al. 2011)."""

    name: Literal["tpe"] = "tpe"
    startup: int = Field(10, ge=1)
    """Random trials before the model is used."""


class CmaEsConfig(Section):
    """Covariance matrix adaptation (Hansen 2016); for numbers only, and best with many trials. Needs `cmaes`."""

    name: Literal["cma_es"] = "cma_es"
    population: int | None = Field(None, ge=4, le=10_000)
    """Trials of a generation; by default 4 + 3 log(dimensions)."""


class GaussianProcessConfig(Section):
    """Bayesian optimisation with a Gaussian process: for few dimensions and expensive trials."""

    name: Literal["gp"] = "gp"
    startup: int = Field(10, ge=1)
    """Random trials before the model is used."""


class RandomSearchConfig(Section):
    """Every trial drawn by itself."""

    name: Literal["random"] = "random"


class GridConfig(Section):
    """Every combination of choices, and of ranges with a step (or of whole numbers)."""

    name: Literal["grid"] = "grid"


class Nsga2Config(Section):
    """Genetic search for several objectives (Deb et al. 2002)."""

    name: Literal["nsga2"] = "nsga2"
    population: int = Field(20, ge=2, le=10_000)
    """Trials of a generation."""


SamplerConfig = Annotated[
    Annotated[TpeConfig, Tag("tpe")]
    | Annotated[CmaEsConfig, Tag("cma_es")]
    | Annotated[GaussianProcessConfig, Tag("gp")]
    | Annotated[RandomSearchConfig, Tag("random")]
    | Annotated[GridConfig, Tag("grid")]
    | Annotated[Nsga2Config, Tag("nsga2")],
    BY_NAME,
    SHORTHAND,
]


class NoPrunerConfig(Section):
    """Every trial runs to its end."""

    name: Literal["none"] = "none"


class MedianConfig(Section):
    """Stop a trial whose best value so far is worse than the median of the others' at the same round."""

    name: Literal["median"] = "median"
    startup: int = Field(5, ge=1)
    """Trials that must be complete before one is stopped."""
    warmup: int = Field(0, ge=0)
    """Rounds of a trial in which it is not stopped."""


class AshaConfig(Section):
    """Asynchronous successive halving (Li et al. 2020): few trials reach each next rung of rounds."""

    name: Literal["asha"] = "asha"
    rounds: int = Field(1, ge=1)
    """Rounds of the first rung."""
    reduction: int = Field(4, ge=2)
    """Factor η: one trial of η goes on, to η times the rounds."""


class HyperbandConfig(Section):
    """Successive halving with several first rungs side by side (Li et al. 2018)."""

    name: Literal["hyperband"] = "hyperband"
    rounds: int = Field(1, ge=1)
    """Rounds of the shortest first rung."""
    reduction: int = Field(3, ge=2)
    """Factor η: one trial of η goes on, to η times the rounds."""


PrunerConfig = Annotated[
    Annotated[NoPrunerConfig, Tag("none")]
    | Annotated[MedianConfig, Tag("median")]
    | Annotated[AshaConfig, Tag("asha")]
    | Annotated[HyperbandConfig, Tag("hyperband")],
    BY_NAME,
    SHORTHAND,
]


class ConfirmationConfig(Section):
    """The winner and the experiment as it stands, again, on seeds that the study has not seen, on the test set."""

    seeds: int = Field(5, ge=0, le=1000)
    """Runs of each; 0 leaves the confirmation out."""
    level: float = Field(0.95, gt=0, lt=1)
    """Of the confidence interval of the paired difference."""

    @model_validator(mode="after")
    def _enough_for_an_interval(self) -> ConfirmationConfig:
        if self.seeds == 1:
            raise ValueError("seeds must be 0, or at least 2: one run of each has no confidence interval")
        return self


class TuningConfig(Section):
    """What `raysim tune` does with the experiment."""

    space: dict[str, DimensionConfig] = Field(default_factory=dict)
    """Keys of the experiment to vary, by their dotted path, in the order in which they are set."""
    weights: SimplexConfig = AsConfiguredConfig()
    """Vary how much clients count, as a point on the simplex: of all clients, or of groups of them."""
    objective: Annotated[tuple[ObjectiveConfig, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        ObjectiveConfig(),
    )
    """The objective, or a list of them, of which the Pareto front is sought."""
    sampler: SamplerConfig = TpeConfig()
    """What to try next."""
    pruner: PrunerConfig = NoPrunerConfig()
    """Which trials to stop early; for a single objective only."""
    trials: int = Field(50, ge=1, le=1_000_000)
    """Trials in all, those of earlier sittings included."""
    parallel: int = Field(1, ge=1, le=10_000)
    """Trials at once, each with its share of the actors; several need `execution.executor: ray`."""
    seed: int | None = Field(None, ge=0, le=SEED)
    """Seed of the search; by default the experiment's. Every trial has the experiment's own seed."""
    storage: str | None = None
    """Where Optuna keeps the study: a database URL for several drivers, by default a journal in the study's folder."""
    confirm: ConfirmationConfig = ConfirmationConfig()
    """Whether the winner is better than the experiment as it stands by more than chance."""
