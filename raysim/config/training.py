"""The `training` section: how the clients' work is computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raysim.config.balance import ClassWeightsConfig, EqualClassesConfig, LogitsConfig, PlainLogitsConfig
from raysim.config.base import ImportString, Section

FOR_CLASSES = ("cross_entropy", "binary_cross_entropy", "focal", "dpo")
"""Losses of classes; the other named ones are of numbers."""


def is_own_loss(loss: str) -> bool:
    """Whether a loss is the user's own: by import string, handed over, or the model's."""
    return ":" in loss or loss in ("in_memory", "model")


class TrainingConfig(Section):
    """How a client's work is computed: the loss, and the engine that runs it."""

    loss: (
        Literal["auto", "cross_entropy", "binary_cross_entropy", "focal", "mse", "huber", "dpo", "model", "in_memory"]
        | ImportString
    ) = "auto"
    """Training loss; `auto` is cross-entropy for classes, mean squared error for numbers, and direct preference
    optimisation (`dpo`) for pairs of answers. `model` is what the model itself computes: its `training_step`, or the
    `loss` of its forward pass given `labels`. An import string names a function of (output, target), or a loss module;
    `in_memory` is written by raysim where `Simulation(loss=…)` was given one."""
    auxiliary: dict[str, float] = Field({}, max_length=20)
    """Weights of auxiliary outputs in the training loss, by their names in what the forward pass returns in training
    mode (`{aux: 0.4}`); the same loss is taken of each."""
    huber_delta: float = Field(1.0, gt=0)
    """Where the Huber loss turns from quadratic to linear."""
    focal_gamma: float = Field(2.0, ge=0)
    """Exponent of the focal loss: a sample with probability p of its class counts by (1 − p)^gamma."""
    dpo_beta: float = Field(0.1, gt=0)
    """How strongly direct preference optimisation holds the model near its frozen base."""
    class_weights: ClassWeightsConfig = EqualClassesConfig()
    """What samples of each class count in the training loss."""
    logits: LogitsConfig = PlainLogitsConfig()
    """How logits are corrected in training, where classes are unequal; evaluation takes them as they are."""
    engine: Literal["auto", "sequential", "rows"] = "auto"
    """`sequential` trains one client at a time, `rows` many at once as the rows of one matrix; `auto` times both on the
    first round's clients, once, and records its choice. They differ in the last bits."""
    rows: int | None = Field(None, ge=1)
    """Clients that train at once with the `rows` engine; by default the fastest number found. It changes no bit."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` computes forward and backward pass under bfloat16 autocast; weights, updates and losses stay float32."""
    checkpointing: bool | Annotated[tuple[str, ...], Field(min_length=1)] = False
    """Forget activations in the forward pass and compute them anew in the backward pass: the same gradients for less
    memory and more time. `true` is what the model has in rows (`nn.ModuleList`), or its own submodules where it has no
    such row; or globs of submodules (`blocks.*`). It trains one client at a time."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the local step of the `rows` engine with `torch.compile`, which needs a C++ compiler and takes seconds
    the first time; `auto` tries it where a run is long enough to pay for it."""

    @property
    def task(self) -> Literal["classification", "regression", "by_type"] | None:
        """What the loss makes of targets whose source does not say; None with `auto`, by their type with your own."""
        if self.loss == "auto":
            return None
        if self.loss in FOR_CLASSES:
            return "classification"
        return "by_type" if self.own_loss else "regression"

    @property
    def own_loss(self) -> bool:
        """Whether the loss is the user's own, of which nothing is known before it is tried."""
        return is_own_loss(self.loss)

    @model_validator(mode="after")
    def _only_rows_compile(self) -> TrainingConfig:
        if self.compile is True and self.engine == "sequential":
            raise ValueError("compile needs the rows engine; set engine to rows or auto")
        return self
