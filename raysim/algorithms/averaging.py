"""Federated averaging and federated SGD.

McMahan, Moore, Ramage, Hampson & Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from raysim.algorithms.base import Algorithm
from raysim.config.client import ClientConfig, OptimizerConfig
from raysim.training import Clients, LocalWork


class FedAvg(Algorithm):
    """Clients take local steps, the server averages where they arrive: w ← w + η Σ p_k (w_k - w)."""

    neutral = ()
    paper = "McMahan et al. 2017, arXiv:1602.05629"


class FedSgd(Algorithm):
    """Clients send their whole shard's gradient at w, the server steps along the average: w ← w - η Σ p_k ∇F_k(w)."""

    paper = "McMahan et al. 2017, arXiv:1602.05629"

    def work(self, client: ClientConfig) -> LocalWork:
        return LocalWork(batch_size=None, steps=1)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        return None

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        gradient = c.weights.new_zeros(c.weights.shape)
        for b in c.batches():  # one: the whole shard
            gradient[: b.k] = b.gradients()
        update = c.update()
        update[:, : c.trainable] -= gradient
        return {"update": update}
