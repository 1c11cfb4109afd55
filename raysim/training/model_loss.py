"""Losses that look at more than one tensor of the output: auxiliary outputs, and what the model itself computes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.errors import ModelError
from raysim.models.blueprint import Blueprint
from raysim.models.calling import MAIN, Calling
from raysim.models.exclusive import exclusive_torch
from raysim.models.fit import blank_samples
from raysim.models.inputs import take_inputs
from raysim.models.transformer_inputs import is_transformer
from raysim.training.named_targets import by_name

_OTHER = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, NotImplementedError, ArithmeticError)
"""What a module may raise on tensors without values, although it trains."""
_LABELS = ("labels", "targets", "target", "y")
"""Arguments of a forward pass that takes the targets, and returns its loss."""


@dataclass(frozen=True, slots=True)
class AuxiliaryLoss:
    """loss(main output) + Σ weight · loss(auxiliary output); of one tensor, as in evaluation, the loss alone.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 5: such outputs are thrown away at inference.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    weights: Mapping[str, float]

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        """Losses as the main output's are."""
        if isinstance(output, Tensor):
            return self.loss(output, target)
        found = self.loss(output[MAIN], target)
        for name, weight in self.weights.items():
            found = found + weight * self.loss(output[name], target)
        return found


@dataclass(frozen=True, slots=True)
class ModelLoss:
    """What the module itself computes of a batch: one number, the mean loss of its samples.

    By its `training_step(batch, batch_idx)`, as Lightning modules have it, where `batch` is `(x, y)`, x perhaps a
    mapping of inputs; or by its forward pass, given the targets as `labels` (or `targets`, `target`, `y`), whose result
    has a `loss`.
    """

    info: DataInfo

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        raise ModelError("training.loss: model is computed by the model, of samples and not of outputs")

    def of(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The loss of a batch, a scalar.

        Raises:
            ModelError: the module has no loss of its own, or returns something else.
        """
        inputs = take_inputs(x, self.info.inputs) if self.info.inputs else None
        target: Any = by_name(y, self.info.targets) if self.info.targets else y
        step: Any = getattr(module, "training_step", None)
        if callable(step):
            if getattr(module, "automatic_optimization", True) is False:
                raise _refused(module, "optimises by hand in its training_step; let it return the loss")
            return _scalar(module, step((x if inputs is None else inputs, target), 0), "training_step")
        name = self._argument(module)
        found = module.forward(x, **{name: target}) if inputs is None else module.forward(**inputs, **{name: target})
        return _scalar(module, found, f"forward pass with {name}")

    def check(self, module: nn.Module) -> None:
        """Try it on two blank samples without values; what needs values is left to the first step.

        Raises:
            ModelError: see `of`.
        """
        trial = Blueprint.of(module, calling=Calling.of(module, self.info)).on_meta().train()
        x = blank_samples(self.info, 2).to("meta")
        kind = torch.int64 if self.info.task == "classification" else torch.float32
        y = torch.zeros(2, *self.info.target_shape, dtype=kind, device="meta")
        with exclusive_torch(), suppress(*_OTHER):
            self.of(trial, x, y)

    @staticmethod
    def _argument(module: nn.Module) -> str:
        if is_transformer(module):
            raise _refused(module, "is a transformer of the library, whose masks are raysim's; use cross_entropy")
        names = inspect.signature(module.forward).parameters
        for name in _LABELS:
            if name in names:
                return name
        raise _refused(module, f"has no training_step, and its forward pass takes none of {', '.join(_LABELS)}")


def _scalar(module: nn.Module, found: Any, what: str) -> Tensor:
    if is_dataclass(found) and not isinstance(found, Mapping) and not isinstance(found, type):
        found = {field.name: getattr(found, field.name) for field in fields(found)}
    if isinstance(found, Mapping):
        found = found.get("loss")
    if not isinstance(found, Tensor) or found.ndim > 1 or found.numel() != 1:
        kind = f"a tensor of {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise _refused(module, f"returned {kind} as the loss of its {what}; return the mean loss of the batch")
    return found.reshape(())


def _refused(module: nn.Module, why: str) -> ModelError:
    return ModelError(f"training.loss: model: {type(module).__name__} {why}")
