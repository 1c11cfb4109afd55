"""The job: all that a worker needs to know of an experiment, once."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from raysim.config import Experiment
from raysim.data import DataInfo, FederationSpec
from raysim.models import FrozenBase, build_model, copy_module, exclusive_torch
from raysim.training import EngineChoice, torch_threads


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to know, once. `module` is the user's own, where one was handed over.

    Attributes:
        base: what modules of this job share in this process.
    """

    experiment: Experiment
    federation: FederationSpec
    engine: EngineChoice
    module: nn.Module | None = None
    base: FrozenBase = field(default_factory=FrozenBase, compare=False, repr=False)

    def build_module(self, info: DataInfo, *, share_frozen: bool = True) -> nn.Module:
        """The model with its first weights; a module of their own for everyone who asks.

        Args:
            share_frozen: whether its frozen parameters are those of the other modules of this process, and of the
                module that was handed over.

        Raises:
            ModelError: it cannot be built, or copied.
        """
        experiment = self.experiment
        # Some initialisers compute, and give other bits with other threads.
        with exclusive_torch(), torch_threads(self.engine.threads):
            own = None if self.module is None else copy_module(self.module, share_frozen=share_frozen)
            loss = experiment.training.loss
            module = build_model(experiment.model, info, seed=experiment.seed, loss=loss, module=own)
            if own is None and share_frozen:
                self.base.adopt(module)
        return module
