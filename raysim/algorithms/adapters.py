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
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from raysim.aggregation import Field, nothing
from raysim.algorithms.base import Algorithm, one_version_only
from raysim.algorithms.factors import PairMeans, from_rows, from_sums, gap, single_thread
from raysim.algorithms.lora_pairs import ClientRanks, columns, lora_pairs, products, truncate, unpaired
from raysim.arrays import Float32, Float64, Int64
from raysim.config import Experiment
from raysim.config.adapters import AdaptersConfig, ProductsConfig
from raysim.config.server import LearnedWeightsConfig
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
        products: where the mean of products is wanted, whether it comes as a sum of products of the updates, which
            clients send beside them and which are no part of what a federation would send, or from each client's rows.
        why: why so, for people.
    """

    columnwise = False
    any_lora: ClassVar[bool] = False
    """Whether parameters of LoRA that are no pair of a linear layer do no harm."""
    between_rounds: ClassVar[str] = ""
    """What it does to adapters between rounds, so that momentum of one round makes no sense in the next."""

    def __init__(self, config: AdaptersConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.pairs = lora_pairs(layout, str(config.to_dict()["name"]))
        self.rank = max(pair.rank for pair in self.pairs)
        self._ranks = None if config.ranks is None else ClientRanks(config)
        apart = {one.name for pair in self.pairs for one in (pair.down, pair.up, pair.residual) if one is not None}
        self._rest = columns([one for one in layout.segments if one.name not in apart])
        self._places = {half: columns(self._segments(half)) for half in BOTH}
        self._size = sum(pair.outputs * pair.inputs for pair in self.pairs)
        self.products, self.why = self._choice(config)
        self.recorded = () if self.products is None else (GAP,)
        self.matrices = -(-self._size // layout.size) if self.products == "sums" else 0

    def halves(self, round_number: int) -> tuple[Half, ...]:
        """What of the adapters trains and travels in a round."""
        return BOTH

    def check(self, experiment: Experiment) -> None:
        name, optimizer = experiment.algorithm.name, experiment.client.optimizer
        single = unpaired(self.layout, self.pairs)
        if single is not None and not self.any_lora:
            raise ConfigError(
                f"algorithm: {name} is for pairs lora_A, lora_B of linear layers, and {single} trains, which is none; "
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
            if self.products == "sums" and stage.name != "measure":
                raise ConfigError(
                    f"aggregation.stages[{i}]: {name} adds up products of updates, which are not those of what "
                    f"{stage.name} leaves of the updates; set algorithm.products to rows"
                )
        if self.products == "rows" and isinstance(experiment.aggregation.weights, LearnedWeightsConfig):
            raise ConfigError(
                f"aggregation.weights: learned tries means, and {name} with products as rows looks at each client; set "
                "algorithm.products to sums"
            )
        if self.between_rounds and optimizer.state == "keep":
            raise ConfigError(
                f"client.optimizer.state: what a client kept would be of other adapters, for {name} "
                f"{self.between_rounds}; set it to reset"
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
        return sent | ({"product": products(update, self.pairs)} if self.products == "sums" else {})

    def fields(self) -> tuple[Field, ...]:
        kept = self.products == "rows"
        found = [Field("update", len(self._travelling(self.halves(1))), kept=kept, sent=self._sent)]
        if self._ranks is not None:
            found.append(Field("present", self.rank, constant=True, kept=kept, sent=nothing))
        if self.products == "sums":
            found.append(Field("product", self._size, sent=nothing))
        return tuple(found)

    def init(self, model: Float32) -> dict[str, Float64]:
        return {**super().init(model), **{name: np.zeros(1) for name in self.recorded}}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        return self.server.step(model, state, self.mean_update(model, mean, self.halves(1)))

    def mean_update(self, model: Float32, mean: Mapping[str, Float64], halves: tuple[Half, ...]) -> Float64:
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

    def pair_means(self, model: Float32, update: Float64, mean: Mapping[str, Float64]) -> list[PairMeans]:
        """The pairs, and the means of their factors and products after this mean update, `[P]`."""
        if self.products == "sums":
            return from_sums(self.pairs, model, update, self.coverage(mean), mean["product"])
        weights = mean["rows.weights"]
        rows: Any = mean["update.rows"].reshape(len(weights), -1)
        present: Any = np.ones((len(weights), self.rank), np.float32)
        if self._ranks is not None:
            present = mean["present.rows"].reshape(len(weights), -1)
        sizes = [one.size for half in BOTH for one in self._segments(half)]
        ends = np.cumsum([len(self._rest), *sizes])
        parts = {one.name: i for i, one in enumerate(one for half in BOTH for one in self._segments(half))}
        updates = {name: rows[:, ends[i] : ends[i + 1]] for name, i in parts.items()}
        return from_rows(self.pairs, model, update, present, updates, weights)

    def _choice(self, config: AdaptersConfig) -> tuple[Literal["sums", "rows"] | None, str]:
        """How the mean of products reaches the server, and why so."""
        if not isinstance(config, ProductsConfig) or not config.multiplies:
            return None, ""
        values = len(self._rest) + sum(len(self._places[half]) for half in BOTH)
        row, total, clients = 4 * values, 8 * (values + self._size), config.clients or 1
        if config.products == "rows" or (config.products == "auto" and clients * row < total):
            return "rows", f"of each client as rows of {row:,} bytes; sums with products have {total:,}"
        rows = f"; rows of {clients:,} clients have {clients * row:,}" if config.clients else ""
        return "sums", f"with products in sums of {total:,} bytes{rows}"

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

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        next_model, after = super().apply(model, state, mean)
        if self.products is not None:
            update = self.mean_update(model, mean, BOTH)
            with single_thread():
                after[GAP] = gap(self.pair_means(model, update, mean)) if update.any() else np.zeros(1)
        return next_model, after


class FfaLora(Adapters):
    """FedAvg of B alone; A stays at its first value, so that the average of products is exact."""

    paper = "Sun et al. 2024, arXiv:2403.12313"

    def halves(self, round_number: int) -> tuple[Half, ...]:
        return ("up",)


class RoLora(Adapters):
    """FedAvg of B in odd rounds and of A in even ones, the other one held: averages of products are exact."""

    paper = "Chen et al. 2024, arXiv:2409.02346"
    between_rounds = "holds them every other round"

    def check(self, experiment: Experiment) -> None:
        super().check(experiment)
        one_version_only(experiment, "its clients train one half of an adapter in even rounds, the other in odd ones")

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
        return self.server.step(model, state, self.mean_update(model, mean, halves))
