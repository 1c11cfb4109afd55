"""Several models, each of a cluster of clients that find it the best of them.

Ghosh, Chung, Yin & Ramchandran, "An Efficient Framework for Clustered Federated Learning" (IFCA), NeurIPS 2020,
algorithm 1, option II (model averaging): all m models are broadcast; a client estimates its cluster as the one whose
model has the least loss on its training samples, and takes its local steps from there; each model becomes the average
of what the clients of its cluster came to.

A client sends its update at its cluster's place in a vector of m·P values, and zeros elsewhere, so that sums need not
know who belongs where. The server's own model is that of the cluster that counted most in the round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, ClientVector
from raysim.arrays import Float32, Float64
from raysim.config.personal import IfcaConfig
from raysim.training import Clients, ParameterLayout


class Ifca(Algorithm):
    """FedAvg of several models apart: θ_j ← θ_j + η Σ p_k (w_k - θ_j) / Σ p_k over the clients that chose j."""

    paper = "Ghosh et al. 2020, arXiv:2006.04088"
    neutral = ("algorithm.clusters=1",)
    columnwise = False
    broadcast_state = ("clusters",)

    def __init__(self, config: IfcaConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.clusters, self.spread, self.lr = config.clusters, config.spread, config.server_lr

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("cluster", 1),)

    def fields(self) -> tuple[Field, ...]:
        return Field("clusters", self.clusters * self.layout.size), Field("present", self.clusters, statistic=True)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        models = c.server["clusters"].view(self.clusters, -1)
        choice = c.losses(models).nan_to_num(torch.inf).argmin(dim=1)  # the first of several
        c.rows.copy_(models[choice])
        c.descend()
        c.state["cluster"].copy_(choice[:, None])
        update = c.rows.sub_(models[choice])
        placed = update.new_zeros((c.k, *models.shape))
        placed[torch.arange(c.k, device=update.device), choice] = update
        present = torch.nn.functional.one_hot(choice, self.clusters).to(update.dtype)
        return {"clusters": placed.flatten(1), "present": present}

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return state["clusters"].view(self.clusters, -1)[state["cluster"][:, 0].long()]

    def init(self, model: Float32) -> dict[str, Float64]:
        models = np.repeat(model[None].astype(np.float64), self.clusters, axis=0)
        seed = int.from_bytes(hashlib.sha256(model.tobytes()).digest()[:8], "little")
        for cluster in range(1, self.clusters):
            noise = keyed.generator(seed, keyed.Purpose.CLUSTER_MODELS, cluster)
            for one in self.layout.parameters:
                if len(one.shape) > 1:
                    inputs = one.size // one.shape[0]
                    models[cluster, one.start : one.start + one.size] += (
                        self.spread / np.sqrt(inputs) * noise.standard_normal(one.size)
                    )
        return {"clusters": models.ravel()}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        models, present = state["clusters"].reshape(self.clusters, -1), mean["present"][:, None]
        moves = mean["clusters"].reshape(self.clusters, -1) / np.where(present > 0, present, 1.0)
        models = models + self.lr * moves
        largest = int(np.argmax(mean["present"]))
        return models[largest].astype(np.float32), {"clusters": models.ravel()}
