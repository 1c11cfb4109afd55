"""Representations that are held near those of the global model, and away from those of the client's last one.

Li, He & Song, "Model-Contrastive Federated Learning" (MOON), CVPR 2021, algorithm 1 and equation 3: with the
representations z of a sample under the model that trains, z_glob under the broadcast one and z_prev under the one that
the client came to in its round before, its loss is

    ℓ(w; x, y) - µ log [exp(sim(z, z_glob)/τ) / (exp(sim(z, z_glob)/τ) + exp(sim(z, z_prev)/τ))],

sim being the cosine. A representation is what the last layer is given. In a client's first round the two others are the
same, and the term has no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from raysim.algorithms.base import Algorithm, ClientVector
from raysim.config import Experiment
from raysim.config.algorithms import MoonConfig
from raysim.errors import ConfigError
from raysim.training import Clients, FeatureLoss, ParameterLayout


class Moon(Algorithm):
    """FedAvg whose clients add µ · softplus((sim(z, z_prev) - sim(z, z_glob)) / τ) to each sample's loss."""

    paper = "Li et al. 2021, arXiv:2103.16257"
    neutral = ("algorithm.mu=0",)

    def __init__(self, config: MoonConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.mu, self.temperature, self.layer = config.mu, config.temperature, config.layer

    def check(self, experiment: Experiment) -> None:
        layers = list(dict.fromkeys(_layer(segment.name) for segment in self.layout.parameters))
        if self.layer is not None and not any(f"{name}.".startswith(f"{self.layer}.") for name in layers):
            raise ConfigError(f"algorithm.layer: the model has no layer {self.layer!r}; it has {', '.join(layers[:8])}")
        if len(layers) < 2:
            raise ConfigError(
                "algorithm: moon compares what the last layer is given, and the model has no other; use a deeper model"
            )

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("previous", self.layout.size, "model"),)

    def feature_loss(self) -> FeatureLoss | None:
        if not self.mu:
            return None
        layer = _layer(self.layout.parameters[-1].name) if self.layer is None else self.layer
        return FeatureLoss(layer, 2, self.contrast)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        previous = c.state["previous"]
        c.descend(peers=(c.broadcast.expand_as(previous), previous))
        previous.copy_(c.rows)
        return self.send(c)

    def contrast(self, features: Tensor, others: Sequence[Tensor]) -> Tensor:
        """The term of each sample, `[n]`, given representations `[n, d]` under the global and the previous model."""
        near, far = (F.cosine_similarity(features, other) / self.temperature for other in others)
        return self.mu * F.softplus(far - near)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
