"""Resampled epochs: how often each class is seen, while a round stays as long as it was.

A plan (`BatchPlan`) deals the places of an epoch to batches. Resampling says which sample stands at each place: so many
places go to each class, and its samples take turns at them, in a keyed order. Steps, batches and the clients' weights
stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from raysim import keyed
from raysim.arrays import Float64, Int64, UInt64
from raysim.config.balance import BalancedResamplingConfig, CappedResamplingConfig, NoResamplingConfig, ResamplingConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training.batches import BatchPlan, LocalWork, Shards

_QUOTA, _SAMPLE = 0, 1


@dataclass(frozen=True, slots=True)
class Resampling:
    """Resamples the epochs of clients, each by its own labels alone."""

    config: BalancedResamplingConfig | CappedResamplingConfig
    classes: int

    @classmethod
    def of(cls, config: ResamplingConfig, info: DataInfo) -> Resampling | None:
        """The configured one; None where every sample is seen once an epoch.

        Raises:
            ConfigError: the samples have not one class each.
        """
        if isinstance(config, NoResamplingConfig):
            return None
        if info.task != "classification" or info.target_shape or info.preferences:
            raise ConfigError(f"client.resampling: {config.name} is for samples with one class each; remove it")
        return cls(config, info.classes or 0)

    def __call__(
        self, plan: BatchPlan, seed: int, turn: npt.ArrayLike, clients: Int64, shards: Shards, work: LocalWork
    ) -> BatchPlan:
        """The plan of these clients with other samples at its places; `turn` as for `BatchPlan.draw`."""
        turns = np.broadcast_to(turn, len(clients)).tolist()
        # Visits of one batch are steps of one epoch, and see the same samples.
        index, per_epoch = plan.index.copy(), np.maximum(work.per_epoch(shards.count), 1) * work.repeats
        for i, (client, steps) in enumerate(zip(clients.tolist(), plan.steps.tolist(), strict=True)):
            if not steps:
                continue
            start, count = int(shards.start[i]), int(shards.count[i])
            labels = shards.pool.y[start : start + count].cpu().numpy().astype(np.int64)
            epochs = -(-steps // int(per_epoch[i]))
            chosen = self.samples(labels, epochs, seed, turns[i], client)
            epoch = np.arange(steps) // per_epoch[i]
            index[:steps, i] = chosen[epoch[:, None], index[:steps, i]]
        return replace(plan, index=np.where(np.arange(index.shape[2]) < plan.count[:, :, None], index, 0))

    def samples(self, labels: Int64, epochs: int, seed: int, turn: int, client: int) -> Int64:
        """Which of a client's n samples stands at each place of its epochs: int64 `[epochs, n]`."""
        n = len(labels)
        counts = np.bincount(labels, minlength=self.classes)
        epoch = np.arange(epochs)[:, None]
        key = (seed, keyed.Purpose.RESAMPLING, turn, client, epoch)
        quota = _shares(self._wanted(counts), n, keyed.bits(*key, _QUOTA, np.arange(self.classes)))
        score = keyed.bits(*key, _SAMPLE, np.arange(n))
        order = np.lexsort((score, np.broadcast_to(labels, score.shape)), axis=1)  # class after class
        first = np.cumsum(counts) - counts
        found = np.empty((epochs, n), dtype=np.int64)
        for row, (ordered, wanted) in enumerate(zip(order, quota, strict=True)):
            label = np.repeat(np.arange(self.classes), wanted)
            place = np.arange(n) - np.repeat(np.cumsum(wanted) - wanted, wanted)
            found[row] = ordered[first[label] + place % counts[label]]
        return found

    def _wanted(self, counts: Int64) -> Float64:
        """How often each class is wanted, in proportion, `[classes]`."""
        present = counts > 0
        if isinstance(self.config, BalancedResamplingConfig):
            return present.astype(np.float64)
        cap, ratio = self.config.cap, self.config.ratio
        most = min(np.inf if cap is None else cap, np.inf if ratio is None else ratio * int(counts[present].min()))
        return np.minimum(counts.astype(np.float64), most)


def _shares(wanted: Float64, n: int, score: UInt64) -> Int64:
    """n places in such proportions, by largest remainders, int64 `[epochs, classes]`; of equal ones the lower score."""
    exact = n * wanted / wanted.sum()
    whole = np.floor(exact).astype(np.int64)
    order = np.lexsort((score, np.broadcast_to(-np.round(exact - whole, 9), score.shape)), axis=1)
    quota = np.broadcast_to(whole, score.shape).copy()
    np.put_along_axis(quota, order[:, : n - int(whole.sum())], whole[order[:, : n - int(whole.sum())]] + 1, axis=1)
    return quota
