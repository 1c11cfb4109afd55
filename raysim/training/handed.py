"""Losses and metrics of the user's own: functions, modules and classes, made into what the trainer works with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysim.errors import ConfigError
from raysim.user_code import user_code

HANDED_OVER = "in_memory"
"""What the configuration says of a loss that was handed over."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What a program hands over beside the configuration: `Simulation(loss=…, metrics=…)`."""

    loss: Any = None
    """A function of (output, target), or a module that is called so; None where the configuration names the loss."""
    metrics: tuple[Any, ...] = ()
    """Metrics beside those of the configuration (see `resolve_metrics`)."""


NOTHING = HandedOver()


class Elementwise(nn.Module):
    """A loss module of torch that averages, without the average: one loss a target."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        plain: Any = copy.copy(loss)  # with its own table of buffers, that a move to a device may not reach the user's
        plain._buffers = dict(loss._buffers)
        plain.reduction = "none"
        self.loss = plain

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Losses in the shape of the targets; one number a target may have a last dimension of one."""
        if output.ndim == target.ndim + 1 and output.shape[-1] == 1:
            output = output.squeeze(-1)
        if isinstance(self.loss, nn.BCEWithLogitsLoss | nn.BCELoss):
            target = target.to(output.dtype)
        found: Tensor = self.loss(output, target)
        return found


def loss_of(given: Any, name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that a user's object is.

    A module of torch with `reduction: mean` is called without it, so that raysim weighs and averages. One that weighs
    classes, or leaves out some, averages in another way: it is taken as a loss of the whole batch.

    Args:
        given: a function, a module, or the class of one that needs no arguments.
        name: what errors call it.

    Raises:
        ConfigError: it is none of these, or has parameters of its own.
    """
    if isinstance(given, type):
        with user_code(f"training.loss: {name} needs arguments; name an instance, or a function", ConfigError):
            given = given()
    if not callable(given):
        raise ConfigError(
            f"training.loss: {name} is no function of (output, target), but of type {type(given).__name__}"
        )
    if not isinstance(given, nn.Module):
        function: Callable[[Tensor, Tensor], Tensor] = given
        return function
    if next(given.parameters(), None) is not None:
        raise ConfigError(
            f"training.loss: {name} has parameters, which would not be trained; make them parameters of the model, and "
            "have the model compute its loss (training.loss: model)"
        )
    plain = getattr(given, "weight", None) is None and getattr(given, "ignore_index", -100) == -100
    averages = getattr(given, "reduction", None) in ("mean", "elementwise_mean")
    return Elementwise(given) if averages and plain and type(given).__module__.startswith("torch.") else given


def one_a_sample(elements: Tensor, samples: int) -> Tensor:
    """Losses of targets or samples; that of a whole batch stands for each of its samples, `[n]`."""
    return elements.expand(samples) if elements.ndim == 0 else elements


def refuse_batch_loss(name: str, what: str) -> ConfigError:
    """The error of what needs one loss a sample, where a loss is one number a batch."""
    return ConfigError(
        f"training.loss: {name} is one number a batch, and {what}; return one loss a sample (in torch: "
        "reduction='none')"
    )


def losses_of(loss: Any, module: nn.Module, x: Tensor, output: Any, y: Tensor) -> Tensor:
    """Losses of a batch whose output is known: by the loss, or by the module itself where it is a `ModelLoss`."""
    with torch.no_grad():
        found = loss.of(module, x, y) if hasattr(loss, "of") else loss(output, y)
    return one_a_sample(found, len(y)) if isinstance(found, Tensor) else torch.as_tensor(found)
