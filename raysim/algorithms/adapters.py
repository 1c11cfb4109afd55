"""Federated averaging of LoRA adapters, factor by factor: W x + s B A x, of which clients train A `[r, d_in]` and B
`[d_out, r]`.

- FedIT: Zhang, Vahidian, Kuo, Li, Zhang, Yu, Zhou, Wang & Chen, "Towards Building the Federated GPT: Federated
  Instruction Tuning", 2023, algorithm 1: A and B are averaged apart. Adapters of lower rank are padded with zeros.
- FFA-LoRA: Sun, Li, Li & Ding, "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024, section 4: A stays
  at its first value.
- RoLoRA: Chen, Ju, Dalal, Zhu & Khisti, "Robust Federated Finetuning of Foundation Models via Alternating Minimization
  of LoRA", 2024, algorithm 1: B in odd rounds, A in even ones.

The average of products is not the product of averages; the rules of `adapter_products` take account of that. Whatever
else trains, such as a head, is averaged as usual. Versions of the base stay on the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm
from raysim.algorithms.factors import gap, pair_means
from raysim.algorithms.lora_pairs import ClientRanks, columns, lora_pairs, products, truncate, unpaired
from raysim.arrays import Float32, Float64, Int64
from raysim.config import Experiment
from raysim.config.adapters import AdaptersConfig, FedItConfig
from raysim.errors import ConfigError
from raysim.training import Clients, ParameterLayout, Segment, Some, to_device

GAP = "lora/gap"
"""‖mean(B_k A_k) - mean(B_k) mean(A_k)‖ / ‖mean(B_k A_k)‖, the Frobenius norm over all layers."""
Half = Literal["down", "up"]
"""A or B."""
BOTH: tuple[Half, ...] = ("down", "up")


class Adapters(Algorithm):
    """What the rules have in common: clients have adapters of their ranks, and some of their columns travel.

    Attributes:
        pairs: the adapters.
        multiplies: whether clients also send products of their updates. They stand for what the server would compute
            from the factors, and are no part of what a federation would send.
    """

    columnwise = False
    any_lora: ClassVar[bool] = False
    """Whether parameters of LoRA that are no pair of a linear layer do no harm."""

    def __init__(self, config: AdaptersConfig, layout: ParameterLayout, *, multiplies: bool = False) -> None:
        super().__init__(config, layout)
        self.pairs = lora_pairs(layout, str(config.to_dict()["name"]))
        self.multiplies = multiplies
        self.recorded = (GAP,) if multiplies else ()
        self.rank = max(pair.rank for pair in self.pairs)
        self._ranks = None if config.ranks is None else ClientRanks(config)
        apart = {one.name for pair in self.pairs for one in (pair.down, pair.up, pair.residual) if one is not None}
        self._rest = columns([one for one in layout.segments if one.name not in apart])
        self._places = {half: columns(self._segments(half)) for half in BOTH}
        size = sum(pair.outputs * pair.inputs for pair in self.pairs)
        self.matrices = -(-size // layout.size) if multiplies else 0

    def halves(self, round_number: int) -> tuple[Half, ...]:
        """What of the adapters trains and travels in a round."""
        return BOTH

    def check(self, experiment: Experiment) -> None:
        name, optimizer = experiment.algorithm.name, experiment.client.optimizer
        alone = unpaired(self.layout, self.pairs)
        if alone is not None and not self.any_lora:
            raise ConfigError(
                f"algorithm: {name} is for pairs lora_A, lora_B of linear layers, and {alone} trains, which is none; "
                "adapt linear layers alone, or use fedit"
            )
        if self._ranks is not None and (most := int(self._ranks.ranks.max())) != self.rank:
            raise ConfigError(
                f"algorithm.ranks: the largest is {most}, and the model's adapters have rank {self.rank}; give some "
                f"clients {self.rank}, or build the model with rank {most}"
            )
        decays = optimizer.weight_decay or any(group.weight_decay for group in experiment.client.groups)
        if len(self.halves(1)) == 1 and decays:
            raise ConfigError(f"client.optimizer.weight_decay: it would move the half that {name} holds; set it to 0")
        for i, stage in enumerate(experiment.aggregation.stages):
            if self.multiplies and stage.name != "measure":
                raise ConfigError(
                    f"aggregation.stages[{i}]: {name} adds up products of updates, which are not those of what "
                    f"{stage.name} leaves of the updates; remove the stage, or use fedit"
                )

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        halves, ranks = self.halves(c.setting.round), None if self._ranks is None else self._ranks.of(c.clients)
        if ranks is not None:
            truncate(c.rows, ranks, self.pairs)
        c.descend(None if halves == BOTH else self._hold_down if halves == ("up",) else self._hold_up)
        update = c.update()
        if ranks is not None:
            truncate(update, ranks, self.pairs)
        sent = {"update": update.index_select(1, to_device(self._travelling(halves), update.device))}
        if ranks is not None:
            present = np.arange(self.rank) < ranks[:, None]
            sent["present"] = to_device(present.astype(np.float32), update.device)
        return sent | ({"product": products(update, self.pairs)} if self.multiplies else {})

    def fields(self) -> tuple[Field, ...]:
        found = [Field("update", len(self._travelling(self.halves(1))), sent=self._sent)]
        if self._ranks is not None:
            found.append(Field("present", self.rank, constant=True, sent=nothing))
        if self.multiplies:
            found.append(Field("product", sum(pair.outputs * pair.inputs for pair in self.pairs), sent=nothing))
        return tuple(found)

    def init(self, model: Float32) -> dict[str, Float64]:
        return {**super().init(model), **{name: np.zeros(1) for name in self.recorded}}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        return self.server.step(model, state, self.moved(model, mean, self.halves(1)))

    def moved(self, model: Float32, mean: Mapping[str, Float64], halves: tuple[Half, ...]) -> Float64:
        """How far the mean of the clients' models is from the broadcast one, `[P]`; what a client lacks counts as 0."""
        found, place = np.zeros(self.layout.size), self._travelling(halves)
        found[place] = mean["update"][: len(place)]
        lost = self.coverage(mean) - 1.0
        if lost.any():
            for pair in self.pairs:
                for half, one in ((half, getattr(pair, half)) for half in halves):
                    by_rank = lost[: pair.rank]
                    each = np.repeat(by_rank, pair.inputs) if half == "down" else np.tile(by_rank, pair.outputs)
                    values = slice(one.start, one.start + one.size)
                    found[values] += each * model[values]
        return found

    def coverage(self, mean: Mapping[str, Float64]) -> Float64:
        """The share of the clients, by weight, that have each part of the largest rank, `[r]`."""
        present = mean.get("present")
        # All clients have the first part; in a round without clients it is 0.
        return np.ones(self.rank) if present is None or not present[0] else present / present[0]

    def _segments(self, half: Half) -> Sequence[Segment]:
        return [pair.down if half == "down" else pair.up for pair in self.pairs]

    def _travelling(self, halves: tuple[Half, ...]) -> Int64:
        """The columns that travel up."""
        return np.concatenate([self._rest, *(self._places[half] for half in halves)])

    def _sent(self, round_number: int, clients: Int64) -> Int64:
        """What clients have to send: of their adapters as much as their rank."""
        halves = self.halves(round_number)
        ranks = np.full(len(clients), self.rank) if self._ranks is None else self._ranks.of(clients)
        found = np.full(len(clients), len(self._rest))
        for pair in self.pairs:
            each = sum(pair.inputs if half == "down" else pair.outputs for half in halves)
            found += np.minimum(ranks, pair.rank) * each
        return found

    def _hold_down(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        for one in self._segments("down"):
            grad[:, one.start : one.start + one.size].zero_()

    def _hold_up(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        for one in self._segments("up"):
            grad[:, one.start : one.start + one.size].zero_()


class FedIt(Adapters):
    """FedAvg of the adapters: Ā = Σ p_k A_k and B̄ = Σ p_k B_k, each by itself."""

    paper = "Zhang et al. 2023, arXiv:2305.05644"
    neutral = ()
    any_lora = True

    def __init__(self, config: FedItConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout, multiplies=config.measure_gap)

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        next_model, after = super().apply(model, state, mean)
        if self.multiplies:
            moved = self.moved(model, mean, BOTH)
            after[GAP] = gap(pair_means(self.pairs, model, moved, self.coverage(mean), mean["product"]))
        return next_model, after


class FfaLora(Adapters):
    """FedAvg of B alone; A stays at its first value, so that the average of products is exact."""

    paper = "Sun et al. 2024, arXiv:2403.12313"

    def halves(self, round_number: int) -> tuple[Half, ...]:
        return ("up",)


class RoLora(Adapters):
    """FedAvg of B in odd rounds and of A in even ones, the other one held: averages of products are exact."""

    paper = "Chen et al. 2024, arXiv:2409.02346"

    def halves(self, round_number: int) -> tuple[Half, ...]:
        return ("up",) if round_number % 2 else ("down",)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        sent, size = dict(super().local(c)), self.fields()[0].size
        update = sent["update"]
        sent["update"] = update.new_zeros((c.k, size))
        sent["update"][:, : update.shape[1]] = update
        return sent | {"half": update.new_full((c.k, 1), float(c.setting.round % 2))}

    def fields(self) -> tuple[Field, ...]:
        update, *others = super().fields()
        size = max(len(self._travelling(self.halves(number))) for number in (1, 2))
        return replace(update, size=size), *others, Field("half", 1, constant=True, sent=nothing)

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        # Rounds without clients are no steps of the server, so which round it is it hears from the clients.
        halves = self.halves(1 if mean["half"][0] > 0.5 else 2)
        return self.server.step(model, state, self.moved(model, mean, halves))


def nothing(round_number: int, clients: Int64) -> Int64:
    """Of a field that the server would know by itself."""
    return np.zeros(len(clients), dtype=np.int64)
