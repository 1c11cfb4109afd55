"""The `client` section: what a client does in a round."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.balance import NoResamplingConfig, ResamplingConfig
from raysim.config.base import BY_NAME, SHORTHAND, Section
from raysim.config.example_privacy import ExamplePrivacyConfig


class BaseOptimizerConfig(Section):
    """What every local optimiser takes."""

    lr: float = Field(0.1, ge=0)
    """Client learning rate, before the schedule."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay; added to the gradient by `sgd` and `adam`, decoupled in `adamw`."""
    state: Literal["reset", "keep"] = "reset"
    """Momentum and moments begin anew in every round, or a client goes on with those of the round that it last took
    part in: it keeps as many values as it trains, or twice as many with `adam` and `adamw`."""


class SgdConfig(BaseOptimizerConfig):
    """Stochastic gradient descent, as `torch.optim.SGD`."""

    name: Literal["sgd"] = "sgd"
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum."""
    nesterov: bool = False
    """Nesterov momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SgdConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        if self.state == "keep" and self.momentum == 0:
            raise ValueError("state: keep needs momentum above 0: without it there is nothing to keep")
        return self


class AdamConfig(BaseOptimizerConfig):
    """Adam or AdamW, as in `torch.optim`."""

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(0.001, ge=0)
    """Client learning rate, before the schedule."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root of the second moment."""


OptimizerConfig = Annotated[
    Annotated[SgdConfig, Tag("sgd")] | Annotated[AdamConfig, Tag("adam")] | Annotated[AdamConfig, Tag("adamw")],
    BY_NAME,
    SHORTHAND,
]


class ConstantConfig(Section):
    """The same learning rate in every round."""

    name: Literal["constant"] = "constant"


class ExponentialConfig(Section):
    """Multiply the learning rate by `gamma` every `every` rounds."""

    name: Literal["exponential"] = "exponential"
    gamma: float = Field(0.99, gt=0)
    """Factor."""
    every: int = Field(1, ge=1)
    """Rounds between two multiplications."""


class CosineConfig(Section):
    """Cosine from 1 to `floor` times the learning rate over the experiment's rounds."""

    name: Literal["cosine"] = "cosine"
    floor: float = Field(0.0, ge=0, le=1)
    """Factor at the last round."""


class WarmupConfig(Section):
    """Linear from 1/rounds to 1 over the first rounds, then constant."""

    name: Literal["warmup"] = "warmup"
    rounds: int = Field(10, ge=1)
    """Rounds of the rise."""


class StepScheduleConfig(Section):
    """By local steps over the whole run, counted from the first round on; needs `client.steps`.

    A linear rise from 1/warmup to 1 over the first steps, then as `then` says."""

    name: Literal["steps"] = "steps"
    warmup: int = Field(0, ge=0)
    """Steps of the rise."""
    then: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "constant"
    """What follows: 1; a line or a cosine from 1 to `floor` at the last step; or the root of warmup / step."""
    floor: float = Field(0.0, ge=0, le=1)
    """Factor at the last step; below it nothing goes."""
    total: int | None = Field(None, ge=2)
    """Steps of the whole curve; by default those of all rounds."""

    @property
    def ends_with_the_run(self) -> bool:
        """Whether the curve depends on the number of rounds."""
        return self.then in ("linear", "cosine") and self.total is None

    @model_validator(mode="after")
    def _has_a_curve(self) -> StepScheduleConfig:
        if self.then == "constant" and self.floor:
            raise ValueError("floor is where a falling curve ends, and then is constant; remove floor")
        if self.then in ("constant", "inverse_sqrt") and self.total is not None:
            raise ValueError(f"total is the length of a line or a cosine, and then is {self.then}; remove total")
        if self.total is not None and self.total <= self.warmup:
            raise ValueError(f"total ({self.total}) must be above warmup ({self.warmup})")
        return self


ScheduleConfig = Annotated[
    Annotated[ConstantConfig, Tag("constant")]
    | Annotated[ExponentialConfig, Tag("exponential")]
    | Annotated[CosineConfig, Tag("cosine")]
    | Annotated[WarmupConfig, Tag("warmup")]
    | Annotated[StepScheduleConfig, Tag("steps")],
    BY_NAME,
    SHORTHAND,
]


class StragglersConfig(Section):
    """Clients that run out of time before their round's work is done (Li et al. 2020, section 5.2)."""

    share: float = Field(0.0, ge=0, le=1)
    """Share of each cohort that straggles; which clients, and how far each gets, is drawn anew in every round."""
    keep: bool = True
    """Keep what stragglers did: some epochs, at least one and not all (steps, where `steps` is given). False drops
    them from the round; a round with no client left keeps the model."""


class ParameterGroupConfig(Section):
    """Parameters that are trained in a way of their own, as a parameter group of `torch.optim`."""

    match: Annotated[tuple[str, ...], Field(min_length=1)]
    """Globs of parameter names (`head.*`, `*.bias`); a parameter belongs to the first group that matches it."""
    lr_scale: float = Field(1.0, ge=0)
    """Factor on the learning rate of these parameters; 0 leaves them where they are."""
    weight_decay: float | None = Field(None, ge=0)
    """Weight decay of these parameters; by default that of `client.optimizer`."""
    clip_norm: float | None = Field(None, gt=0)
    """Clip the part of the gradient that belongs to these parameters to this Euclidean norm, by itself. All parameters
    in groups without this, and in no group, are clipped together to `client.clip_norm`."""


class ClientConfig(Section):
    """What a client does with the model in a round."""

    optimizer: OptimizerConfig = SgdConfig()
    """Local optimiser."""
    schedule: ScheduleConfig = ConstantConfig()
    """Client learning rate over the rounds, or over all local steps."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["full"] = 10
    """Samples of a step; `full` is the client's whole shard."""
    epochs: int = Field(1, ge=1)
    """Passes over the shard in a round (unless `steps` is given)."""
    steps: int | None = Field(None, ge=1)
    """Local steps in a round, whatever the client's size; replaces `epochs`."""
    drop_last: bool = False
    """Leave out an epoch's last batch where it is shorter than `batch_size`: batch normalisation cannot train on a
    single sample. Each epoch leaves out others; a client with fewer samples than a batch keeps its only one."""
    buckets: int | None = Field(None, ge=2, le=10_000)
    """Batches in a row whose samples are sorted by length together, for texts to classify with a transformer. Each
    batch then has samples of about one length, and is cut to its longest. Batches come in a drawn order."""
    clip_norm: float | None = Field(None, gt=0)
    """Clip every step's gradient to this Euclidean norm."""
    groups: tuple[ParameterGroupConfig, ...] = ()
    """Parameters with a learning rate, weight decay or clipping of their own."""
    accumulation: int = Field(1, ge=1)
    """Equal micro-batches that the gradient of a batch is computed in, one after the other: the memory of one of them,
    for the same gradient up to rounding. It divides `batch_size`, and trains one client at a time."""
    resampling: ResamplingConfig = NoResamplingConfig()
    """How often an epoch sees the samples of each class."""
    stragglers: StragglersConfig = StragglersConfig()
    """Clients that do only part of the work."""
    privacy: ExamplePrivacyConfig | None = None
    """Differential privacy of each client's samples: what leaves the client has noise in it. Needs `steps`."""

    @model_validator(mode="after")
    def _has_a_last_batch(self) -> ClientConfig:
        if self.drop_last and self.batch_size == "full":
            raise ValueError("drop_last leaves out short batches, and batch_size is full; remove drop_last")
        if self.buckets is not None and self.batch_size == "full":
            raise ValueError("buckets sort samples into batches, and batch_size is full; remove buckets")
        if self.batch_size != "full" and self.batch_size % self.accumulation:
            raise ValueError(f"accumulation ({self.accumulation}) does not divide batch_size ({self.batch_size})")
        return self

    @model_validator(mode="after")
    def _samples_are_drawn_one_by_one(self) -> ClientConfig:
        if self.privacy is None:
            return self
        if self.batch_size == "full":
            raise ValueError("privacy draws each batch at random, and batch_size is full; set it to a number")
        if self.steps is None:
            raise ValueError("privacy draws each batch by itself, and epochs are shuffled; set steps in their place")
        if self.drop_last:
            raise ValueError("privacy knows no last batch of an epoch; remove drop_last")
        if self.resampling.name != "none":
            raise ValueError(
                f"privacy counts with samples that are drawn alike, and resampling is {self.resampling.name}, by the "
                "client's labels; remove resampling"
            )
        if self.accumulation > 1:
            raise ValueError("privacy takes gradients one sample at a time anyway; remove accumulation")
        if self.privacy.most(self.batch_size) < self.batch_size:
            raise ValueError(
                f"privacy.largest_batch ({self.privacy.largest_batch}) is below batch_size ({self.batch_size}), the "
                "size of a batch on average; raise it"
            )
        return self
