"""The mode that each submodule trains in: the one that its author left it in."""

from __future__ import annotations

from torch import nn


class TrainingModes:
    """Puts a module into the modes that it was handed over with, as often as it is needed.

    A submodule in evaluation mode, such as a frozen batch normalisation, stays in it. A module that is in evaluation
    mode as a whole, as a pretrained one is after loading, trains as a whole.

    Args:
        module: in the modes that it was handed over with.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        training = [one for one in module.modules() if one.training]
        self._evaluating = [one for one in module.modules() if not one.training] if training else []
        within = {id(inner) for one in self._evaluating for inner in one.modules()}
        self._training = [one for one in training if id(one) in within]

    def train(self) -> None:
        """Put the module into the modes that it trains in."""
        self._module.train()
        for one in self._evaluating:  # not by the attribute alone: a module may override `train`
            one.eval()
        for one in self._training:
            one.training = True
