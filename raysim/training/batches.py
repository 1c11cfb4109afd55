"""Which samples a client sees in which step, and how they reach the model.

The order of a client's samples is a function of (seed, turn, client, epoch) alone; in a synchronous round the turn is
the round. Batches are gathered into fresh, aligned tensors: a view into a shard would have an alignment, and hence
bits, that depend on its place in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysim import keyed
from raysim.arrays import Bools, Int64
from raysim.data import DataInfo, Samples
from raysim.training.transfer import copied


@dataclass(frozen=True, slots=True)
class LocalWork:
    """How much a client does in a round.

    Attributes:
        batch_size: samples of a step; None is the whole shard.
        epochs: passes over the shard, if `steps` is None.
        steps: local steps, whatever the client's size.
        rounds: that a cohort stays for; local steps are taken in the last of them.
        repeats: steps in a row that see the same batch. `epochs` and `steps` count them once.
        drop_last: whether an epoch goes without a last batch that is shorter than the others.
        poisson: samples that a batch has at most, where each sample is in it with a chance of `batch_size` / n
            (`raysim.training.examples`); None deals shuffled epochs.
    """

    batch_size: int | None
    epochs: int = 1
    steps: int | None = None
    rounds: int = 1
    repeats: int = 1
    drop_last: bool = False
    poisson: int | None = None

    @property
    def room(self) -> int | None:
        """Samples that a batch has at most; None is the whole shard."""
        return self.batch_size if self.poisson is None else self.poisson

    def drawn_in(self, round_number: int) -> int:
        """Which draw a round's cohort is of: one that stays for several rounds is drawn once."""
        return -(-round_number // self.rounds)

    def count(self, samples: Int64) -> Int64:
        """Local steps of clients with this many samples, int64; an empty client takes none."""
        total = self.per_epoch(samples) * self.epochs if self.steps is None else np.full_like(samples, self.steps)
        return np.where(samples > 0, total * self.repeats, 0)

    def per_epoch(self, samples: Int64) -> Int64:
        """Batches that one pass over this many samples takes, int64; at least one of any samples."""
        if self.batch_size is None:
            return np.ones_like(samples)
        if self.drop_last:
            return np.maximum(samples // self.batch_size, np.minimum(samples, 1))
        return -(-samples // self.batch_size)

    def meets_one(self, samples: Int64) -> Bools:
        """Whether clients with this many samples take a step on a single one."""
        steps, batches = self.count(samples) // self.repeats, self.per_epoch(samples)
        size = samples if self.batch_size is None else np.minimum(samples, self.batch_size)
        last = np.minimum(samples - (batches - 1) * size, size)
        found: Bools = (steps > 0) & ((size == 1) | ((last == 1) & (steps >= batches)))
        return found


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The samples of every step of K clients, ordered by falling number of steps.

    Attributes:
        index: int64 `[S, K, B]`, positions within each client's own shard; 0 where `count` says that there is none.
        count: int64 `[S, K]`, samples of each batch: the last one of an epoch may be short.
        steps: int64 `[K]`, falling.
    """

    index: Int64
    count: Int64
    steps: Int64

    @classmethod
    def draw(
        cls,
        seed: int,
        turn: npt.ArrayLike,
        clients: Int64,
        samples: Int64,
        work: LocalWork,
        steps: Int64 | None = None,
    ) -> BatchPlan:
        """The plan of clients `[K]` with these numbers of samples `[K]`; a client's part does not depend on the others.

        Args:
            seed: the experiment's seed.
            turn: keys the order of each one's samples, `[K]`; or one number for all of them.
            steps: local steps of each `[K]`, where they are fewer than the work has.
        """
        steps, per_epoch = work.count(samples) if steps is None else steps, np.maximum(work.per_epoch(samples), 1)
        k, last, longest = len(clients), int(steps.max(initial=0)), int(samples.max(initial=0))
        size = longest if work.batch_size is None else work.batch_size
        if not last:
            return cls(np.zeros((0, k, size), np.int64), np.zeros((0, k), np.int64), steps)
        epochs, batches = int(np.max(-(-steps // (per_epoch * work.repeats)))), int(per_epoch.max())
        order = np.zeros((k, epochs, batches * size), dtype=np.int64)
        dealt = min(longest, batches * size)
        if work.batch_size is None:
            order[:, :, :longest] = np.arange(longest)
        else:
            for epoch in range(epochs):
                order[:, epoch, :dealt] = _permutations(seed, turn, clients, epoch, samples)[:, :dealt]
        step = np.arange(last)[:, None]
        pass_over, batch = step // work.repeats // per_epoch, step // work.repeats % per_epoch
        count = np.where(step < steps, np.minimum(samples - batch * size, size), 0)
        pass_over = np.minimum(pass_over, epochs - 1)  # of clients that have finished, whose count is 0
        index = order.reshape(k, epochs, batches, size)[np.arange(k), pass_over, batch]
        return cls(np.where(np.arange(size) < count[:, :, None], index, 0), count, steps)


def _permutations(seed: int, turn: npt.ArrayLike, clients: Int64, epoch: int, samples: Int64) -> Int64:
    """A permutation of each client's samples in the first of `[K, longest]`."""
    position = np.arange(int(samples.max()))
    key = keyed.bits(seed, keyed.Purpose.BATCHES, np.reshape(turn, (-1, 1)), clients[:, None], epoch, position)
    # What lies beyond a shard sorts behind it, also behind an equal key: the sort is stable.
    key[position >= samples[:, None]] = np.iinfo(np.uint64).max
    return np.argsort(key, axis=1, kind="stable")


@dataclass(frozen=True, slots=True)
class Shard:
    """Samples on the training device, as stored (uint8 stays uint8)."""

    x: Tensor
    y: Tensor
    weight: Tensor | None

    @classmethod
    def load(cls, samples: Samples, device: torch.device) -> Shard:
        """Copy samples out of their memory map into aligned tensors on the device."""
        return cls(
            copied(samples.x, device),
            copied(samples.y, device),
            None if samples.weight is None else copied(samples.weight, device),
        )

    def __len__(self) -> int:
        return self.y.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self.x.nbytes + self.y.nbytes + (0 if self.weight is None else self.weight.nbytes)


@dataclass(frozen=True, slots=True)
class Shards:
    """Where the samples of K clients lie in one tensor.

    Attributes:
        pool: samples on the training device, of these clients and perhaps of others.
        start, count: of each client, int64 `[K]`.
    """

    pool: Shard
    start: Int64
    count: Int64

    @classmethod
    def join(cls, shards: Sequence[Shard]) -> Shards:
        """Shards one after the other, copied unless there is only one."""
        weights = [shard.weight for shard in shards if shard.weight is not None]
        count = np.array([len(shard) for shard in shards], dtype=np.int64)
        pool = shards[0]
        if len(shards) > 1:
            x, y = torch.cat([shard.x for shard in shards]), torch.cat([shard.y for shard in shards])
            pool = Shard(x, y, torch.cat(weights) if weights else None)
        return cls(pool, np.cumsum(count) - count, count)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model and a loss take: x float32, int64 or words `[b, …]`, y int64 or float32, weight float32 or None."""

    x: Tensor
    y: Tensor
    weight: Tensor | None


def gather(shard: Shard, index: Tensor, info: DataInfo) -> Batch:
    """Fresh, aligned tensors of these samples, ready for the model."""
    weight = None if shard.weight is None else shard.weight.index_select(0, index)
    return Batch(
        model_input(shard.x.index_select(0, index), info), target(shard.y.index_select(0, index), info), weight
    )


def model_input(x: Tensor, info: DataInfo) -> Tensor:
    """Stored features as the model takes them. The only place where uint8 is scaled: `x / 255` in float32.

    Words of a record stay words: the model's forward pass begins with taking the inputs out of them.
    """
    if info.input_kind == "record":
        return x
    if info.input_kind == "pixels":
        return x.to(torch.float32).div_(255.0)
    return x.to(torch.int64) if info.input_kind == "tokens" else x.to(torch.float32)


def target(y: Tensor, info: DataInfo) -> Tensor:
    """Stored targets as losses and metrics take them: int64 classes, or float32 numbers."""
    return y.to(torch.int64 if info.task == "classification" else torch.float32)
