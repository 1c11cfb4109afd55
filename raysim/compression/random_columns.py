"""Random-k: the values in some columns, drawn by key in each round, the same of all clients.

Konečný, McMahan, Yu, Richtárik, Suresh & Bacon, "Federated learning: Strategies for improving communication
efficiency", 2016, section 3 (random mask). As the columns are those of the round, sums of them can be masked, encrypted
and noised, and no column travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Field, MeanContext, SendContext
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float64, Int64
from raysim.compression.layers import Layers
from raysim.compression.parts import sized
from raysim.compression.replacing import Replacement, ReplacingStage
from raysim.errors import ConfigError


class RandomK(ReplacingStage[Replacement]):
    """Replaces a field by its values in k columns of the layers that are compressed, and in all of the others.

    The server divides by k / n where the mean is to be right on average, else leaves the other columns as they are.
    """

    def __init__(
        self,
        columns: ModelColumns,
        fraction: float,
        unbiased: bool,
        include: Sequence[str],
        exclude: Sequence[str],
        dense_below: int,
    ) -> None:
        super().__init__(columns, include, exclude, dense_below)
        self._fraction, self._unbiased = fraction, unbiased

    def replacement(self, number: int, field: Field, layers: Layers) -> Replacement:
        k = round(self._fraction * layers.n)
        k -= sized(k + layers.dense, self.columns)
        if k < 1:
            raise ConfigError(f"fraction {self._fraction:g} of {layers.n:,} values is nothing; raise it")
        return Replacement(number, layers, k)

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        found = dict(sent)
        for name, one in self.replaced.items():
            columns = np.concatenate([one.layers.columns[_chosen(ctx, one)], one.layers.rest])
            found[name] = sent[name][:, torch.from_numpy(columns).to(sent[name].device)]
        return found

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        found = dict(mean)
        sizes = {field.name: field.size for field in ctx.fields}
        for name, one in self.replaced.items():
            layers, k = one.layers, one.size
            found[name] = np.zeros(sizes[name])
            found[name][layers.columns[_chosen(ctx, one)]] = mean[name][:k] * (layers.n / k if self._unbiased else 1.0)
            found[name][layers.rest] = mean[name][k:]
        return found, state, {}


def _chosen(ctx: SendContext | MeanContext, one: Replacement) -> Int64:
    return _drawn(ctx.seed, ctx.round, one.number, one.layers.n, one.size)


@lru_cache(maxsize=4)
def _drawn(seed: int, round_number: int, number: int, n: int, k: int) -> Int64:
    """The k of n columns of a round, ascending; remembered, since all its clients have them."""
    generator = keyed.generator(seed, keyed.Purpose.RANDOM_COLUMNS, round_number, number)
    return np.sort(generator.choice(n, k, replace=False, shuffle=False))
