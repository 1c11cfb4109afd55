"""Models of which every client keeps a part to itself: the rest is averaged, and the parts never leave their clients.

- FedPer: Arivazhagan, Aggarwal, Singh & Choudhary, "Federated Learning with Personalization Layers", 2019, algorithms 1
  and 2: the last layers are personal, all layers train together.
- FedRep: Collins, Hassani, Mokhtari & Shakkottai, "Exploiting Shared Representations for Personalized Federated
  Learning", ICML 2021, algorithm 1: the head first, with the body fixed, then the body, with the head fixed.
- FedBN: Li, Jiang, Zhang, Kamp & Dou, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
  ICLR 2021, algorithm 1: normalisation layers are personal, their running statistics too.
- FedSA-LoRA: Guo, Zeng, Wang, Fan, Wang & Qu, "Selective Aggregation for Low-Rank Adaptation in Federated Learning",
  ICLR 2025, section 4: of LoRA's pairs A is shared, and B is personal.
- Local training, where everything is personal, is the baseline that all of them should beat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, ClientVector, plain_sgd_only
from raysim.algorithms.lora_pairs import columns, lora_pairs
from raysim.arrays import Float32, Float64, Int64
from raysim.config import Experiment
from raysim.config.client import ClientConfig
from raysim.config.personal import FedRepConfig, LocalLayersConfig
from raysim.errors import ConfigError
from raysim.training import Clients, LocalWork, ParameterLayout, Some, to_device


class _PersonalLayers(Algorithm):
    """FedAvg of the shared columns, which alone travel to the server; clients keep the others, which begin as those of
    the first model."""

    columnwise = False
    neutral: ClassVar[tuple[str, ...] | None] = ("algorithm.local_layers=[]",)

    def __init__(self, config: LocalLayersConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.patterns = config.local_layers
        self.personal_columns = self.columns(layout)
        self.shared = np.setdiff1d(np.arange(layout.size), self.personal_columns)

    def default(self, layout: ParameterLayout) -> Sequence[str]:
        """Names of the personal parameters and buffers where the configuration leaves them open."""
        raise NotImplementedError

    def columns(self, layout: ParameterLayout) -> Int64:
        """The personal ones of the columns `[P]`, ascending."""
        patterns = self.default(layout) if self.patterns is None else self.patterns
        return columns(layout.matching(patterns))

    def check(self, experiment: Experiment) -> None:
        names = [segment.name for segment in self.layout.segments]
        for pattern in self.patterns or ():
            if not self.layout.matching((pattern,)):
                raise ConfigError(
                    f"algorithm.local_layers: {pattern!r} matches nothing in the model, which has "
                    f"{', '.join(names[:8])}"
                )
        if self.patterns is None and not len(self.personal_columns):
            raise ConfigError(
                f"algorithm: {experiment.algorithm.name} finds no layers of its kind in the model; "
                "name some in algorithm.local_layers"
            )

    def client_state(self) -> tuple[ClientVector, ...]:
        return (
            (ClientVector("local", len(self.personal_columns), self.personal_columns),)
            if len(self.personal_columns)
            else ()
        )

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        if not len(self.personal_columns):
            return super().local(c)
        mine, shared = _index(self.personal_columns, c.rows), _index(self.shared, c.rows)
        c.rows.index_copy_(1, mine, c.state["local"])
        c.descend(self.correct)
        c.state["local"].copy_(c.rows.index_select(1, mine))
        return {"update": c.update().index_select(1, shared)}

    def fields(self) -> tuple[Field, ...]:
        return (Field("update", len(self.shared), sent=self._sent),)

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        update = np.zeros(self.layout.size)
        update[self.shared] = mean["update"]
        return self.server.step(model, state, update)

    def _sent(self, round_number: int, clients: Int64) -> Int64:
        """What clients have to send: the shared columns without padding."""
        return np.full(len(clients), self.layout.values(self.layout.size) - len(self.personal_columns))

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        if not len(self.personal_columns):
            return broadcast[None]
        models = broadcast.repeat(len(state["local"]), 1)
        return models.index_copy_(1, _index(self.personal_columns, models), state["local"])


class FedPer(_PersonalLayers):
    """FedAvg of all but the last layer, which every client keeps to itself."""

    paper = "Arivazhagan et al. 2019, arXiv:1912.00818"

    def default(self, layout: ParameterLayout) -> Sequence[str]:
        return last_layer(layout)


class FedBn(_PersonalLayers):
    """FedAvg of all but normalisation layers, whose scales and statistics every client keeps to itself."""

    paper = "Li et al. 2021, arXiv:2102.07623"

    def default(self, layout: ParameterLayout) -> Sequence[str]:
        by_layer = {_layer(s.name) for s in layout.parameters if s.name.endswith("weight") and len(s.shape) == 1}
        return [segment.name for segment in layout.segments if _layer(segment.name) in by_layer]


class FedSaLora(_PersonalLayers):
    """FedAvg of all but B of LoRA's pairs, which every client keeps to itself."""

    paper = "Guo et al. 2024, arXiv:2410.01463"

    def default(self, layout: ParameterLayout) -> Sequence[str]:
        return [pair.up.name for pair in lora_pairs(layout, "fedsa_lora")]


class Local(_PersonalLayers):
    """No federation: every client trains a model of its own, all of it, in the rounds that draw it. The baseline."""

    paper = "the baseline of McMahan et al. 2017, arXiv:1602.05629"

    def default(self, layout: ParameterLayout) -> Sequence[str]:
        return [segment.name for segment in layout.segments]


class FedRep(_PersonalLayers):
    """Clients train their own head first, with the shared body fixed, and then the body, with the head fixed."""

    paper = "Collins et al. 2021, arXiv:2102.07078"
    neutral = ("algorithm.local_layers=[]", "algorithm.head_epochs=0")

    def __init__(self, config: FedRepConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.head_epochs = config.head_epochs
        self.in_local = np.isin(np.arange(layout.trainable), self.personal_columns)

    def default(self, layout: ParameterLayout) -> Sequence[str]:
        return last_layer(layout)

    def check(self, experiment: Experiment) -> None:
        super().check(experiment)
        client = experiment.client
        if client.steps is not None or client.stragglers.share:
            raise ConfigError("algorithm: fedrep counts in whole epochs; leave out client.steps and client.stragglers")
        plain_sgd_only(
            experiment, "algorithm: fedrep fixes half of the model at a time, which only plain SGD leaves where it is"
        )

    def work(self, client: ClientConfig) -> LocalWork:
        whole = super().work(client)
        return replace(whole, epochs=whole.epochs + self.head_epochs, steps=None)

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        if not self.head_epochs:
            return
        body_epochs = b.epochs - self.head_epochs
        in_head = b.number < b.steps - b.steps // b.epochs * body_epochs
        grad.mul_(to_device(in_head, grad.device)[:, None] == to_device(self.in_local, grad.device))


def _index(columns: Int64, like: Tensor) -> Tensor:
    return to_device(columns, like.device)


def last_layer(layout: ParameterLayout) -> list[str]:
    """Names of the parameters of the layer that comes last."""
    layer = _layer(layout.parameters[-1].name)
    return [segment.name for segment in layout.segments if _layer(segment.name) == layer]


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
