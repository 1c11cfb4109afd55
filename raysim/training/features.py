"""The representation that a module computes, which is the input of one of its layers, and losses that compare them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from raysim.models.modes import TrainingModes


@dataclass(frozen=True, slots=True)
class FeatureLoss:
    """What is added to each sample's training loss for its representation, given those under other models.

    Attributes:
        layer: name of the submodule whose input is the representation.
        peers: how many other models there are.
        penalty: of the sample's representations `[n, d]`, and those under the other models, each `[n, d]` and without
            gradients, to `[n]`.
    """

    layer: str
    peers: int
    penalty: Callable[[Tensor, Sequence[Tensor]], Tensor]


class FeatureTerm:
    """Computes a `FeatureLoss` on a module, whose layer's input it keeps from every forward pass.

    Raises:
        AttributeError: the module has no such layer.
    """

    def __init__(self, module: nn.Module, loss: FeatureLoss) -> None:
        self._module, self._loss, self.peers = module, loss, loss.peers
        self._modes = TrainingModes(module)
        self._seen: Tensor | None = None
        module.get_submodule(loss.layer).register_forward_pre_hook(self._see)

    def penalty(self, x: Tensor, peers: Sequence[Mapping[str, Tensor]], *, bf16: bool = False) -> Tensor:
        """What is added to the losses of the samples, `[n]`, after the forward pass of the model that trains.

        Args:
            x: the samples.
            peers: values of the other models by name; they compute as in evaluation.

        Raises:
            ValueError: the forward pass went without the layer.
        """
        mine, others = self._take(), []
        self._module.eval()
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            for values in peers:
                functional_call(self._module, dict(values), (x,))
                others.append(self._take())
        self._modes.train()
        return self._loss.penalty(mine, others)

    def _see(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self._seen = given[0]

    def _take(self) -> Tensor:
        seen, self._seen = self._seen, None
        if seen is None:
            raise ValueError("the forward pass does not go through the layer whose input is the representation")
        return seen.flatten(1).float()
