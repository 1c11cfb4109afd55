"""Losses, one value for each target: the caller weighs and averages them.

Functions of (output, target) alone, so that `torch.func` can take their gradients and vectorise them over clients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from raysim.config import load
from raysim.config.training import FOR_CLASSES, TrainingConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.models.outputs import OutputShape
from raysim.training.handed import HANDED_OVER, NOTHING, HandedOver, loss_of
from raysim.training.model_loss import AuxiliaryLoss, ModelLoss
from raysim.training.named_targets import OfNamedTargets
from raysim.user_code import user_code

Loss = Callable[[Tensor, Tensor], Tensor]
"""(output `[n, *output_shape]`, target `[n, *target_shape]`) to losses `[n, *target_shape]`, or `[n]`; not averaged.
One of the user's own may be given several outputs by name, and may return one number for the whole batch."""


class ClientLoss(Protocol):
    """A loss that also looks at numbers of the client whose samples it is given.

    Contract: as of a `Loss`, with a third argument. Engines pass each client its own part of what the block has as
    `context`, and vectorise over clients with it.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one client's context, float32."""
        ...

    def __call__(self, output: Tensor, target: Tensor, context: Tensor) -> Tensor:
        """Losses, given the client's context `[*shape]`."""
        ...


def classes_last(output: Tensor, target: Tensor) -> Tensor:
    """Logits `[n, *positions, classes]`, given so or as torch has them, `[n, classes, *positions]`.

    Where both fit, as many classes as positions, those of a sequence `[n, length]` are taken as classes last, those of
    an image or a volume as classes second.
    """
    if target.ndim == 1 or output.ndim != target.ndim + 1:
        return output
    last = output.shape[:-1] == target.shape
    second = output.shape[2:] == target.shape[1:] and len(output) == len(target)
    return output.movedim(1, -1) if second and not (last and target.ndim == 2) else output


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy of class logits.

    Args:
        output: logits, `[n, *positions, classes]` or `[n, classes, *positions]` (see `classes_last`).
        target: classes, `[n, *positions]`.

    Returns:
        `[n, *positions]`.
    """
    if output.ndim == 2:
        return F.cross_entropy(output, target.long(), reduction="none")
    output = classes_last(output, target)
    losses = F.cross_entropy(output.flatten(0, -2), target.long().flatten(), reduction="none")
    return losses.reshape(target.shape)


def row_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """`cross_entropy` from elementary operations, for classes that are all valid: torch's own kernels take several
    times as long where they are given many rows of few classes."""
    output = classes_last(output, target)
    shifted = output - output.detach().amax(dim=-1, keepdim=True)
    chosen = shifted.gather(-1, target.long().unsqueeze(-1)).squeeze(-1)
    return shifted.exp().sum(dim=-1).log() - chosen


def focal(output: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss: cross-entropy times (1 − p)^gamma for the target's probability p (Lin et al. 2017, equation 4)."""
    elements = row_cross_entropy(output, target)
    missed = -torch.expm1(-elements)  # 1 − p; a power of exactly 0 may have an infinite slope
    return missed.clamp(min=1e-12).pow(gamma) * elements


def binary_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Logistic loss of one logit a target, `[n, *positions]`, for classes 0 and 1."""
    logits = one_a_target(output, target)
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Squared error of one number a target, `[n, *target_shape]`."""
    output = one_a_target(output, target)
    return F.mse_loss(output, target.to(output.dtype), reduction="none")


def huber(output: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
    """Huber loss: half the squared error up to `delta`, linear beyond."""
    output = one_a_target(output, target)
    return F.huber_loss(output, target.to(output.dtype), reduction="none", delta=delta)


def dpo(output: Tensor, target: Tensor, *, beta: float = 0.1) -> Tensor:
    """Direct preference optimisation: -log σ(β (r₊ - r₋)) of pairs of answers (Rafailov et al. 2023, equation 7).

    Args:
        output: r = log π(y) - log π₀(y) of both answers, `[n, 2]`, under the model and its reference model.
        target: which of them is the better one, `[n]`.
        beta: how strongly the model is held near the reference model.
    """
    ahead = output[:, 0] - output[:, 1]
    return -F.logsigmoid(beta * torch.where(target == 0, ahead, -ahead))


def one_a_target(output: Tensor, target: Tensor) -> Tensor:
    """The output in the target's shape, without a last dimension of one, or a second one as images have it.

    Raises:
        ValueError: it is not one number a target; torch would broadcast and average something else.
    """
    if output.ndim == target.ndim + 1 and output.shape[-1] == 1:
        output = output.squeeze(-1)
    elif output.ndim == target.ndim + 1 and output.ndim > 2 and output.shape[1] == 1:
        output = output.squeeze(1)
    if output.shape != target.shape:
        raise ValueError(f"outputs of shape {list(output.shape)} are not one for each of {list(target.shape)} targets")
    return output


def weighted_mean(elements: Tensor, weight: Tensor | None) -> Tensor:
    """The scalar Σ w·l / Σ w over all elements; 0, with gradient 0, where all weights are 0.

    Args:
        elements: losses, `[n]` or `[n, *positions]`.
        weight: see `element_weight`.
    """
    if weight is None:
        return elements.mean()
    weight = element_weight(elements, weight)
    total = weight.sum()
    share = weight / (total + (total == 0))  # normalised first: less for autograd to record
    return (share * elements).sum()


def element_weight(elements: Tensor, weight: Tensor | None) -> Tensor:
    """The weight of each element, in the elements' shape; None is 1 everywhere.

    A weight a sample is given to all its positions; of weights a position, an element that stands for several has their
    mean.
    """
    if weight is None:
        return torch.ones_like(elements)
    if weight.shape == elements.shape:
        return weight
    if weight.ndim > elements.ndim:
        weight = weight.mean(dim=tuple(range(elements.ndim, weight.ndim)))
    weight = weight.reshape(*weight.shape, *(1,) * (elements.ndim - weight.ndim))
    return weight.expand_as(elements)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "focal": focal,
    "mse": mse,
    "huber": huber,
    "dpo": dpo,
}


def list_losses() -> dict[str, str]:
    """Name and one-line description of every loss."""
    return {name: (loss.__doc__ or "").splitlines()[0] for name, loss in LOSSES.items()}


def loss_name(training: TrainingConfig, info: DataInfo) -> str:
    """The configured loss, with `auto` made concrete: cross-entropy for classes, squared error for numbers, DPO for
    pairs of answers."""
    if training.loss != "auto":
        return training.loss
    if info.preferences:
        return "dpo"
    return "cross_entropy" if info.task == "classification" else "mse"


def resolve_loss(training: TrainingConfig, info: DataInfo, handed: HandedOver = NOTHING) -> Loss:
    """The loss that the configuration names, or that was handed over; of auxiliary outputs, too.

    Raises:
        ConfigError: the loss does not suit the data's task, or an import string names no function.
    """
    loss = _main_loss(training, info, handed)
    if not training.auxiliary:
        return loss
    if isinstance(loss, ModelLoss):
        raise ConfigError("training.auxiliary: the model's own loss has its auxiliary outputs in it; remove it")
    return AuxiliaryLoss(loss, dict(training.auxiliary))


def _main_loss(training: TrainingConfig, info: DataInfo, handed: HandedOver) -> Loss:
    name = loss_name(training, info)
    if name == "model":
        return ModelLoss(info)
    if name == HANDED_OVER or ":" in name:
        return _own_loss(name, info, handed)
    if info.targets:
        named = ", ".join(field.name for field in info.targets)
        raise ConfigError(
            f"training.loss: {name} takes one target, the data has several by name ({named}); hand over a function, "
            "Simulation(loss=…), name it (package.module:function), or use model"
        )
    if (name in FOR_CLASSES) != (info.task == "classification"):
        data, remedy = ("classes", "cross_entropy") if info.task == "classification" else ("numbers", "mse or huber")
        raise ConfigError(f"training.loss: {name} does not suit data whose targets are {data}; use {remedy} (or auto)")
    if (name == "dpo") != info.preferences:
        found = "pairs of answers" if info.preferences else "no pairs of answers (data.source.task: preference)"
        raise ConfigError(f"training.loss: {name} does not suit data that is {found}; use auto")
    if name == "dpo":
        return partial(dpo, beta=training.dpo_beta)
    if name == "binary_cross_entropy" and info.classes != 2:
        raise ConfigError(f"training.loss: {name} is for two classes, the data has {info.classes}; use cross_entropy")
    if name == "focal":
        return partial(focal, gamma=training.focal_gamma)
    return partial(huber, delta=training.huber_delta) if name == "huber" else LOSSES[name]


def _own_loss(name: str, info: DataInfo, handed: HandedOver) -> Loss:
    if name == HANDED_OVER:
        if handed.loss is None:
            raise ConfigError(
                "training.loss: the run was started with a loss of your own; pass it again as loss=… (--loss)"
            )
        loss: Loss = loss_of(handed.loss, called(handed.loss))
    else:
        loss = loss_of(load(name, key="training.loss"), repr(name))
    return OfNamedTargets(loss, info.targets) if info.targets else loss


def called(loss: object) -> str:
    """What errors call a loss that was handed over."""
    return str(getattr(loss, "__qualname__", type(loss).__name__))


def check_loss(loss: Loss, output_shape: OutputShape, info: DataInfo, *, name: str) -> bool:
    """Check a loss of the user's own on two blank samples.

    Args:
        loss: the loss.
        output_shape: of the model for one sample, as `raysim.models.check_fit` returns it.
        info: what a sample looks like.
        name: what errors call the loss.

    Returns:
        Whether it is one number a batch, and not one a sample or a target.

    Raises:
        ConfigError: it fails, or does not return one value a batch, a sample or a target.
    """
    output, target = blank_batch(output_shape, info)
    outputs = [output] if isinstance(output, Tensor) else list(output.values())
    for one in outputs:
        one.requires_grad_()
    shapes = f"outputs {_shapes(output_shape)} and targets {list(target.shape)}"
    with user_code(f"training.loss: {name} fails on {shapes}", ConfigError):
        elements = loss(output, target)
    found = f"shape {list(elements.shape)}" if isinstance(elements, Tensor) else f"a {type(elements).__name__}"
    if not isinstance(elements, Tensor) or elements.shape not in (target.shape, target.shape[:1], torch.Size()):
        raise ConfigError(
            f"training.loss: {name} returned {found}; return one loss a sample or a target, shape "
            f"{list(target.shape)} (in torch: reduction='none'), or one number for the batch"
        )
    if not elements.requires_grad:
        raise ConfigError(f"training.loss: {name} has no gradient with respect to the output; compute it in torch")
    return elements.ndim == 0


def _shapes(output_shape: OutputShape) -> object:
    if isinstance(output_shape, Mapping):
        return {name: [2, *shape] for name, shape in output_shape.items()}
    return [2, *output_shape]


def blank_batch(output_shape: OutputShape, info: DataInfo, samples: int = 2) -> tuple[Any, Tensor]:
    """Outputs (of several a mapping) and targets of zeros, to check losses and metrics with."""
    kind = torch.int64 if info.task == "classification" else torch.float32
    target = torch.zeros(samples, *info.target_shape, dtype=kind)
    if isinstance(output_shape, Mapping):
        return {name: torch.zeros(samples, *shape) for name, shape in output_shape.items()}, target
    return torch.zeros(samples, *output_shape), target
