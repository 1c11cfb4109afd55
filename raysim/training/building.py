"""Which engine computes, and how it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from raysim.data import DataInfo
from raysim.training.batches import LocalWork
from raysim.training.capture import CannotCapture, why_not
from raysim.training.codes import LocalUpdate
from raysim.training.engine import Engine
from raysim.training.examples import ExamplePrivacy
from raysim.training.features import FeatureLoss
from raysim.training.layout import ParameterLayout
from raysim.training.losses import ClientLoss, Loss
from raysim.training.model_loss import ModelLoss
from raysim.training.rows import RowsEngine
from raysim.training.sequential import NO_SAVING, Saving, SequentialEngine

EngineName = Literal["sequential", "rows"]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """A concrete engine: resolved once, on the driver, recorded, and provided by every worker.

    Attributes:
        name: `rows` trains several clients at once, `sequential` one after the other.
        rows: K, the clients that train at once.
        compiled: whether `torch.compile` compiles the local step.
        precision: of forward and backward pass; rows are float32.
        device: that clients train on.
        threads: of torch, in each worker.
    """

    name: EngineName
    rows: int = 1
    compiled: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    @property
    def torch_device(self) -> torch.device:
        """The device that this process trains on: Ray shows an actor only the GPU that it was given."""
        return torch.device(self.device, 0) if self.device == "cuda" else torch.device("cpu")


def build_engine(
    choice: EngineChoice,
    module: nn.Module,
    layout: ParameterLayout,
    loss: Loss | ClientLoss,
    info: DataInfo,
    work: LocalWork,
    update: LocalUpdate | None = None,
    feature_loss: FeatureLoss | None = None,
    saving: Saving = NO_SAVING,
    privacy: ExamplePrivacy | None = None,
) -> Engine:
    """The engine that was chosen.

    Args:
        module: the engine's from now on.
        update: what the trainer does with gradients, for compiled steps; without it, gradients alone are compiled.
        feature_loss: what is added to the loss.
        saving: memory that is saved at the price of time.
        privacy: what protects the clients' samples.

    Raises:
        CannotCapture: the model, or the work, is not for this engine; says why.
    """
    device, bf16 = choice.torch_device, choice.precision == "bf16"
    if choice.name == "sequential":
        return SequentialEngine(
            module, layout, loss, info, device, bf16=bf16, feature_loss=feature_loss, saving=saving, privacy=privacy
        )
    if isinstance(loss, ModelLoss):
        raise CannotCapture("the model computes its own loss, one number a batch (training.loss: model)")
    if saving.accumulation > 1:
        raise CannotCapture("micro-batches (client.accumulation) are computed one client at a time")
    if saving.checkpointing:
        raise CannotCapture("activations are computed anew (training.checkpointing) one client at a time")
    if saving.cut:
        raise CannotCapture("batches are cut to their longest sequence (client.buckets) one client at a time")
    if info.preferences:
        raise CannotCapture("pairs of answers are compared with the base (training.loss: dpo) one client at a time")
    if choice.compiled and update is not None and not update.corrections and not update.plain:
        raise CannotCapture("the algorithm takes no gradients")
    if feature_loss is not None and choice.compiled:
        raise CannotCapture("a loss that compares representations of several models is not compiled")
    if privacy is not None and choice.compiled:
        raise CannotCapture("the gradients of samples, which are clipped one by one (client.privacy), are not compiled")
    if work.room is None:
        raise CannotCapture("full batches are as long as the client's shard")
    if choice.device == "cpu" and torch.get_num_threads() > 1:
        raise CannotCapture("several threads a client would share out its work by the number of its neighbours")
    size, compiled = work.room, choice.compiled
    try:
        return RowsEngine(
            module, layout, loss, info, device, choice.rows, size, compiled=compiled, update=update, bf16=bf16,
            feature_loss=feature_loss, privacy=privacy,
        )  # fmt: skip
    except (CannotCapture, torch.OutOfMemoryError):
        raise
    except Exception as error:  # in the trial: a module and torch may raise anything, and one at a time it may work
        raise CannotCapture(why_not(error)) from error
