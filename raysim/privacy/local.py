"""Noise that each client adds to its own message, so that the server need not be trusted: local differential privacy.

Dwork & Roth, "The Algorithmic Foundations of Differential Privacy", 2014, sections 3.3 and A.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Mechanism, SendContext, Setting, UpdateStage
from raysim.aggregation.norms import of_data
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float64
from raysim.privacy.drawing import without_padding
from raysim.privacy.refusals import check_private


class LocalNoise(UpdateStage):
    """Adds noise to every value of a client's record that depends on its data, keyed by (seed, round, client, field).

    The noise goes by the bound S of the record. The mean is over the clients that came, as each message is protected by
    itself.
    """

    roads = frozenset({"sum", "rows", "modular"})
    needs = frozenset({"bounded", "bounded_weights", "steady", "memoryless"})
    breaks = frozenset({"bounded", "bounded_l1"})

    def __init__(self, columns: ModelColumns, noise_multiplier: float, mechanism: Mechanism) -> None:
        super().__init__(columns)
        self._multiplier, self.mechanism = noise_multiplier, mechanism

    def check(self, setting: Setting) -> None:
        check_private(setting.experiment, setting.fields, self.columns)

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        assert ctx.bound is not None, "checked when the chain was built"
        scale = self._multiplier * ctx.bound.norm
        for number, name in enumerate(of_data(ctx.fields)):
            for row, client in zip(sent[name], ctx.clients.tolist(), strict=True):
                size = len(row)
                generator = keyed.generator(ctx.seed, keyed.Purpose.LOCAL_NOISE, ctx.round, client, number)
                drawn = without_padding(self._drawn(generator, size), size, slice(0, size), self.columns)
                row += torch.from_numpy((scale * drawn).astype(np.float32)).to(row.device)
        return sent

    def _drawn(self, generator: np.random.Generator, count: int) -> Float64:
        """Noise of scale 1."""
        raise NotImplementedError


class LocalGaussian(LocalNoise):
    """Gaussian noise of standard deviation z S on each value."""

    def __init__(self, columns: ModelColumns, noise_multiplier: float) -> None:
        super().__init__(columns, noise_multiplier, Mechanism("gaussian", noise_multiplier, "each_client"))

    def _drawn(self, generator: np.random.Generator, count: int) -> Float64:
        return generator.standard_normal(count)


class LocalLaplace(LocalNoise):
    """Laplace noise of scale z S on each value, S the bound of the sum of magnitudes."""

    needs: ClassVar = LocalNoise.needs | {"bounded_l1"}

    def __init__(self, columns: ModelColumns, noise_multiplier: float) -> None:
        super().__init__(columns, noise_multiplier, Mechanism("laplace", noise_multiplier, "each_client"))

    def _drawn(self, generator: np.random.Generator, count: int) -> Float64:
        return generator.laplace(size=count)
