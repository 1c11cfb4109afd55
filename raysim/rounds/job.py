"""The job: all that a worker needs to know of an experiment, once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from raysim.config import Experiment
from raysim.config.algorithms import FedKSeedConfig
from raysim.config.hugging_face import HuggingFaceConfig
from raysim.config.noise import AdaptiveClipStageConfig, NoiseConfig
from raysim.data import DataInfo, FederationSpec
from raysim.models import Blueprint, Calling, LazyBlueprint, build_model, exclusive_torch
from raysim.models.blueprint import CPU
from raysim.models.structure import PicklerClass
from raysim.training import NOTHING, EngineChoice, HandedOver, torch_threads

TRANSFORMER_LIBRARIES = ("transformers", "peft")


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to know, once. `module` is the user's own, where one was handed over.

    Attributes:
        handed: a loss and metrics of the user's own, where they were handed over.
        blueprint: what this process makes the job's modules from.
    """

    experiment: Experiment
    federation: FederationSpec
    engine: EngineChoice
    module: nn.Module | None = None
    handed: HandedOver = NOTHING
    blueprint: LazyBlueprint = field(default_factory=LazyBlueprint, compare=False, repr=False)

    def build_module(
        self, info: DataInfo, device: torch.device = CPU, *, share_frozen: bool = True, called: bool = True
    ) -> nn.Module:
        """The model with its first weights; each call returns another module.

        Args:
            device: where it is to be.
            share_frozen: whether its frozen parameters are those of the other modules of this process, and of the
                module that was handed over.
            called: whether it is called with one tensor of samples, whatever its forward pass takes.

        Raises:
            ModelError: it cannot be built, or copied.
        """
        # Some initialisers compute, and give other bits with other threads.
        with exclusive_torch(), torch_threads(self.engine.threads):
            made = self.blueprint.get(lambda: self._first(info), info, cut=self._cut, auxiliary=self._auxiliary)
            return made.instantiate(device, share_frozen=share_frozen, called=called)

    def travelling(self, info: DataInfo, pickler: PicklerClass) -> Blueprint:
        """A blueprint for other processes, which then need no module to be handed over, and no function to make one.

        Raises:
            ModelError: the model cannot be built, or not be sent.
        """
        with exclusive_torch(), torch_threads(self.engine.threads):
            module = self._first(info)
            calling = Calling.of(module, info, cut=self._cut, auxiliary=self._auxiliary)
            return Blueprint.of(module, pickler, calling)

    @property
    def _cut(self) -> bool:
        """Whether batches are cut to their longest sequence."""
        return self.experiment.client.buckets is not None

    @property
    def _auxiliary(self) -> tuple[str, ...]:
        """Outputs that are wanted in training beside the output proper."""
        return tuple(self.experiment.training.auxiliary)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Packages beside torch that the model computes with, or directions and noise are drawn with."""
        experiment = self.experiment
        noisy = any(isinstance(one, NoiseConfig | AdaptiveClipStageConfig) for one in experiment.aggregation.stages)
        noisy = noisy or experiment.client.privacy is not None or experiment.systems.fleet.name != "none"
        drawing = ("numpy",) if noisy or isinstance(experiment.algorithm, FedKSeedConfig) else ()
        return (*drawing, *TRANSFORMER_LIBRARIES) if self._of_transformer() else drawing

    def _of_transformer(self) -> bool:
        if isinstance(self.experiment.model, HuggingFaceConfig):
            return True
        info = self.federation.open().info
        with exclusive_torch(), torch_threads(self.engine.threads):
            return self.blueprint.of_transformer(
                lambda: self._first(info), info, cut=self._cut, auxiliary=self._auxiliary
            )

    def _first(self, info: DataInfo) -> nn.Module:
        experiment = self.experiment
        loss = experiment.training.loss
        versions = experiment.algorithm.versions
        return build_model(
            experiment.model, info, seed=experiment.seed, loss=loss, module=self.module, versions=versions
        )
