"""Exact federated aggregation of LoRA adapters: the mean of the products B_k A_k, and not the product of the means.

- FedEx-LoRA: Singhal, Ponkshe & Vepakomma, "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of
  Foundation Models", 2024, equations 10 to 12: A and B are averaged, the residual mean(B A) - mean(B) mean(A) goes into
  the base.
- FLoRA: Wang, Shen, He, Sun, Ding, Li & Liu, "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous
  Low-Rank Adaptations", NeurIPS 2024, algorithm 1: stacked adapters have the product Σ p_k B_k A_k, which goes into the
  base, and adapters begin anew.
- FlexLoRA: Bai, Chen, Qian, Yao & Li, "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and
  Client Resources", NeurIPS 2024, section 3: the mean of the products, cut to the adapters' rank by its singular
  values.
- HLoRA: Liu, Zhang, Yao & Liu, "HLoRA: Efficient Federated Learning System for LLM Heterogeneous Fine-Tuning", 2025:
  the same, to each client's rank.

What goes into the base goes into its version R (`raysim.models.versioned`), in the units of B A. With a server learning
rate η the product of a pair moves from B A to B A + η (Σ p_k B_k A_k - B A); 1 is the papers'.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from raysim.algorithms.adapters import BOTH, GAP, Adapters
from raysim.algorithms.factors import PairMeans, drawn_factor, gap, single_thread, write, write_residual
from raysim.algorithms.lora_pairs import part
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.adapters import FloraConfig, ProductsConfig
from raysim.errors import ConfigError
from raysim.training import ParameterLayout


class _ExactAdapters(Adapters):
    """Clients send what FedIT's send; the server makes of it what has the product that it should have."""

    def __init__(self, config: ProductsConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.lr = config.server_lr

    @abstractmethod
    def settle(self, before: Float32, after: Float32, means: Sequence[PairMeans], state: Mapping[str, Float64]) -> None:
        """Write pairs and versions into the next model `[P]`, which is FedIT's so far.

        Args:
            before: the broadcast model `[P]`, only read.
        """

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        update = self.mean_update(model, mean, BOTH)
        next_model, _ = self.server.step(model, {}, update)
        if not update.any():  # a round without any change keeps model and state
            return next_model, {GAP: np.zeros(1)}
        with single_thread():
            means = self.pair_means(model, update, mean)
            self.settle(model, next_model, means, state)
            return next_model, {GAP: gap(means)}

    def _version(self, before: Float32, one: PairMeans) -> torch.Tensor:
        """R + B A before the round, and what the product moves by."""
        assert one.pair.residual is not None, "the model was built with versions"
        residual = part(torch.from_numpy(before.astype(np.float64)), one.pair.residual)
        return residual + one.stepped(self.lr).matrix()


class FedExLora(_ExactAdapters):
    """Ā and B̄ as FedIT, and what their product lacks in the base: R ← R + Σ p_k B_k A_k - B̄ Ā."""

    paper = "Singhal et al. 2024, arXiv:2410.09432"

    def settle(self, before: Float32, after: Float32, means: Sequence[PairMeans], state: Mapping[str, Float64]) -> None:
        row = torch.from_numpy(after.astype(np.float64))
        for one in means:
            down, up = one.pair.factors(row)
            write_residual(after, one.pair, self._version(before, one) - up @ down)


class Flora(_ExactAdapters):
    """R ← R + Σ p_k B_k A_k in the base, and adapters that begin anew: A drawn, B zero."""

    paper = "Wang et al. 2024, arXiv:2409.05976"
    between_rounds = "draws them anew"

    def __init__(self, config: FloraConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.seed = config.seed or 0

    def init(self, model: Float32) -> dict[str, Float64]:
        return {**super().init(model), "drawn": np.zeros(1)}

    def settle(self, before: Float32, after: Float32, means: Sequence[PairMeans], state: Mapping[str, Float64]) -> None:
        for place, one in enumerate(means):
            write_residual(after, one.pair, self._version(before, one))
            down = torch.from_numpy(drawn_factor(one.pair, self.seed, int(state["drawn"][0]), place))
            write(after, one.pair, down=down, up=torch.zeros_like(one.up))

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        next_model, after = super().apply(model, state, mean)
        return next_model, after | {"drawn": state["drawn"] + 1}


class FlexLora(_ExactAdapters):
    """The mean of the products, cut to rank r: B A ≈ Σ p_k B_k A_k by its leading singular values."""

    paper = "Bai et al. 2024, arXiv:2402.11505"
    between_rounds = "takes them apart anew"

    def settle(self, before: Float32, after: Float32, means: Sequence[PairMeans], state: Mapping[str, Float64]) -> None:
        for one in means:
            down, up = one.stepped(self.lr).leading(one.pair.rank)
            write(after, one.pair, down=down, up=up)


class HLora(FlexLora):
    """FlexLoRA's step for clients of mixed ranks, of which each trains the leading part that its rank can hold."""

    paper = "Liu et al. 2025, arXiv:2503.00813"

    def check(self, experiment: Experiment) -> None:
        super().check(experiment)
        if self._ranks is None:
            raise ConfigError("algorithm.ranks: hlora is for clients of mixed ranks; set it, or use flexlora")
