"""Differential privacy of single samples: Poisson batches, clipped gradients of each sample, keyed noise.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar & Zhang, "Deep Learning with Differential Privacy", CCS 2016,
algorithm 1, on each client: g = (Σ g_i · min(1, C / ‖g_i‖) + N(0, σ²C²)) / B, over a batch that each sample is in
with probability B / n, independently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysim import keyed
from raysim.arrays import Float64, Int64
from raysim.config.client import ClientConfig
from raysim.training.batches import BatchPlan, LocalWork, Shards
from raysim.training.layout import ParameterLayout
from raysim.training.transfer import to_device

_MARGIN = 1 - 2.0**-21
"""Rounding clipped gradients to float32, and adding them up, must not bring one of them above the bound."""


@dataclass(frozen=True, slots=True)
class ExamplePrivacy:
    """What protects the samples of a client.

    Attributes:
        clip: C, the largest norm of a sample's gradient.
        noise_multiplier: σ.
        batch_size: B, samples of a batch on average.
    """

    clip: float
    noise_multiplier: float
    batch_size: int

    @classmethod
    def of(cls, client: ClientConfig) -> ExamplePrivacy | None:
        """As configured; None where samples are not protected."""
        if client.privacy is None or client.batch_size == "full":
            return None
        return cls(client.privacy.clip, client.privacy.noise_multiplier, client.batch_size)


def poisson_rates(samples: Int64, batch_size: int) -> Float64:
    """The chance of each sample to be in a batch, of clients with this many samples: B / n, at most 1."""
    return np.minimum(batch_size / np.maximum(samples, 1), 1.0)


def poisson_plan(
    seed: int, turn: npt.ArrayLike, clients: Int64, samples: Int64, work: LocalWork, steps: Int64 | None = None
) -> BatchPlan:
    """Poisson batches of clients `[K]`: each sample is in each of them with the same chance, independently.

    A batch may be empty. One of more than `work.poisson` samples keeps that many, by chance. Arguments are those of
    `BatchPlan.draw`.
    """
    assert work.poisson is not None, "batches are Poisson"
    assert work.batch_size is not None, "a batch has an expected size"
    steps = work.count(samples) if steps is None else steps
    index = np.zeros((int(steps.max(initial=0)), len(clients), work.poisson), dtype=np.int64)
    count = np.zeros(index.shape[:2], dtype=np.int64)
    turns, rates = np.broadcast_to(turn, clients.shape), poisson_rates(samples, work.batch_size)
    for i, (mine, has) in enumerate(zip(steps.tolist(), samples.tolist(), strict=True)):
        step = np.arange(mine)[:, None]
        draws = keyed.uniform(seed, keyed.Purpose.EXAMPLES, turns[i], clients[i], step, np.arange(has))
        count[:mine, i] = np.minimum((draws < rates[i]).sum(axis=1), work.poisson)
        order = np.argsort(draws, axis=1, kind="stable")[:, : work.poisson]
        index[:mine, i, : order.shape[1]] = np.where(np.arange(order.shape[1]) < count[:mine, i, None], order, 0)
    return BatchPlan(index, count, steps)


def clipped(grads: Sequence[Tensor], clip: float) -> list[Tensor]:
    """The gradients of one sample, scaled down to a Euclidean norm of at most `clip`, measured in float64.

    Gradients that are not finite become zero: no sample may do more than `clip` allows.
    """
    square = torch.stack([grad.double().square().sum() for grad in grads]).sum()
    sound = square.isfinite()
    factor = torch.where(square > clip * clip, _MARGIN * clip * square.rsqrt(), 1.0).to(torch.float32)
    return [torch.where(sound, grad * factor, 0.0) for grad in grads]


class NoisySums:
    """Makes noisy means out of the sums of clipped gradients that an engine found."""

    def __init__(self, privacy: ExamplePrivacy, layout: ParameterLayout, device: torch.device) -> None:
        self.privacy, self._device = privacy, device
        places = [np.arange(one.start, one.start + one.size) for one in layout.parameters]
        self._columns = to_device(np.concatenate(places), device)
        self._expected: Float64 = np.empty(0)
        self._keys: Sequence[int] = ()

    def load(self, shards: Shards, noise: Int64 | None) -> None:
        """Take up a block; `noise` is a key for each of its clients, `[K]`."""
        assert noise is not None, "a block of clients whose samples are protected has keys of its noise"
        self._expected = np.clip(shards.count, 1, self.privacy.batch_size).astype(np.float64)
        self._keys = noise.tolist()

    def finish(self, step: int, grad: Tensor, losses: Tensor) -> Tensor:
        """Add noise to the sums `[k, T]` of a step and divide by the batch's expected size, in place, in float64.

        Args:
            losses: sums of the samples' losses, `[k]`.

        Returns:
            The losses divided by the batch's expected size, `[k]`: on average, the mean loss.
        """
        scale = self.privacy.noise_multiplier * self.privacy.clip
        for row, key, expected in zip(grad, self._keys, self._expected.tolist(), strict=False):
            sums = row[self._columns].double()
            if scale:
                generator = keyed.generator(key, keyed.Purpose.EXAMPLE_NOISE, step)
                sums += to_device(generator.standard_normal(len(sums)) * scale, self._device)
            row[self._columns] = (sums / expected).to(torch.float32)
        return losses / to_device(self._expected[: len(losses)], losses.device)
