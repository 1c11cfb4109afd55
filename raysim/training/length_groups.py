"""Batches of samples of about the same length, so that padding which all samples of a batch have is left out.

A plan (`BatchPlan`) deals the places of an epoch to batches. Here the samples of some batches in a row are sorted by
length and dealt anew, and these batches then come in a keyed order. Each sample is seen as often as before; steps and
sizes of batches stay what they are. (As `group_by_length` of Hugging Face's trainer, with groups of `batches`.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from raysim import keyed
from raysim.arrays import Int64
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.models.inputs import take_inputs
from raysim.models.transformer_inputs import MASK, cut_length
from raysim.training.batches import BatchPlan, LocalWork, Shards


@dataclass(frozen=True, slots=True)
class LengthGroups:
    """Sorts samples by length within groups of batches in a row.

    Attributes:
        batches: of a group.
        info: what a sample looks like.
    """

    batches: int
    info: DataInfo

    @classmethod
    def of(cls, batches: int | None, info: DataInfo) -> LengthGroups | None:
        """The configured groups (`client.buckets`); None where batches stay as they were drawn.

        Raises:
            ConfigError: samples do not say which of their tokens are padding, or have a target at each position.
        """
        if batches is None:
            return None
        if info.target_shape or not any(one.name == MASK for one in info.inputs):
            raise ConfigError(
                "client.buckets: is for texts to classify that have an attention_mask; remove it (texts to continue "
                "are packed, which leaves no padding: data.source.packing)"
            )
        return cls(batches, info)

    def __call__(
        self, plan: BatchPlan, seed: int, turn: npt.ArrayLike, clients: Int64, shards: Shards, work: LocalWork
    ) -> BatchPlan:
        """The plan of these clients with samples of like length together; `turn` as for `BatchPlan.draw`."""
        turns = np.broadcast_to(turn, len(clients)).tolist()
        index, visits = plan.index.copy(), work.repeats
        per_epoch = np.maximum(work.per_epoch(shards.count), 1).tolist()
        for i, (client, steps) in enumerate(zip(clients.tolist(), plan.steps.tolist(), strict=True)):
            length = self._lengths(shards, i)
            for group in _groups(-(-steps // visits), per_epoch[i], self.batches):
                sizes = plan.count[group * visits, i]
                pool = np.concatenate([index[at * visits, i, :size] for at, size in zip(group, sizes, strict=True)])
                key = keyed.bits(seed, keyed.Purpose.BUCKETS, turns[i], client, group)
                for at, samples in zip(group.tolist(), _dealt(pool, length, sizes, key), strict=True):
                    index[at * visits : min((at + 1) * visits, steps), i, : len(samples)] = samples
        return replace(plan, index=index)

    def tokens(self, plan: BatchPlan, shards: Shards) -> Int64:
        """Token ids that the batches of each client have once they are cut, int64 `[K]`."""
        longest = self._of_batches(plan, shards).max(axis=2, initial=0)
        found: Int64 = (plan.count * cut_length(longest, self.info.tokens)).sum(axis=0)
        return found

    def real_tokens(self, plan: BatchPlan, shards: Shards) -> Int64:
        """Those of them that are no padding, int64 `[K]`."""
        found: Int64 = self._of_batches(plan, shards).sum(axis=(0, 2))
        return found

    def _of_batches(self, plan: BatchPlan, shards: Shards) -> Int64:
        """Tokens of each sample in each batch, int64 `[S, K, B]`; 0 where there is no sample."""
        found = np.zeros_like(plan.index)
        for i in range(found.shape[1]):
            if len(length := self._lengths(shards, i)):
                found[:, i] = length[plan.index[:, i]]
        return np.where(np.arange(found.shape[2]) < plan.count[:, :, None], found, 0)

    def _lengths(self, shards: Shards, i: int) -> Int64:
        """Tokens of each sample of a client, up to the last that is no padding, int64 `[n]`."""
        start, count = int(shards.start[i]), int(shards.count[i])
        fields = [one for one in self.info.inputs if one.name == MASK]
        mask = take_inputs(shards.pool.x[start : start + count], fields)[MASK].cpu().numpy() > 0
        lengths: Int64 = (mask * np.arange(1, mask.shape[1] + 1)).max(axis=1, initial=0)
        return lengths


def _groups(batches: int, per_epoch: int, most: int) -> Iterator[Int64]:
    """Runs of at most this number of batches, each of one epoch."""
    for begin in range(0, batches, per_epoch):
        end = min(begin + per_epoch, batches)
        for first in range(begin, end, most):
            yield np.arange(first, min(first + most, end))


def _dealt(pool: Int64, length: Int64, sizes: Int64, key: npt.NDArray[np.uint64]) -> list[Int64]:
    """The samples of a group, sorted and cut into its batches; `key` has 64 random bits for each of them.

    Whole batches come in the order of their bits. A short one, the last of an epoch, stays the last; whether it has the
    longest or the shortest samples is a coin.
    """
    ordered = pool[np.argsort(length[pool], kind="stable")]
    whole = int(np.count_nonzero(sizes == sizes[0]))
    if key[-1] & np.uint64(1):
        ordered = ordered[::-1]
    cuts = np.cumsum(sizes)[:-1]
    dealt = np.split(ordered, cuts)
    order = np.argsort(key[:whole], kind="stable").tolist()
    return [*(dealt[at] for at in order), *dealt[whole:]]
