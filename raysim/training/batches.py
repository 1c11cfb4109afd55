"""Which samples a client sees in which step, and how they reach the model.

The order of a client's samples is a function of (seed, round, client, epoch) alone. Batches are gathered into fresh,
aligned tensors: a view into a shard would have an alignment, and hence bits, that depend on its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.data import DataInfo, Samples

InputKind = Literal["real", "pixels", "tokens"]


@dataclass(frozen=True, slots=True)
class LocalWork:
    """How much a client does in a round.

    Attributes:
        batch_size: samples of a step; None is the whole shard.
        epochs: passes over the shard, if `steps` is None.
        steps: local steps, whatever the client's size.
    """

    batch_size: int | None
    epochs: int = 1
    steps: int | None = None

    def count(
        self, samples: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Local steps of clients with so many samples, int64; an empty client takes none."""
        per_epoch = np.ones_like(samples) if self.batch_size is None else -(-samples // self.batch_size)
        total = per_epoch * self.epochs if self.steps is None else np.full_like(samples, self.steps)
        return np.where(samples > 0, total, 0)


@dataclass(frozen=True, slots=True)
class Shard:
    """A client's samples on the training device, as stored (uint8 stays uint8)."""

    x: Tensor
    y: Tensor
    weight: Tensor | None

    @classmethod
    def load(cls, samples: Samples, device: torch.device) -> Shard:
        """Copy samples out of their memory map into aligned tensors on the device."""
        return cls(
            _aligned(samples.x, device),
            _aligned(samples.y, device),
            None if samples.weight is None else _aligned(samples.weight, device),
        )

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model and a loss take: `x` float32 or int64 `[b, …]`, `y` int64 or float32, `weight` float32 or None."""

    x: Tensor
    y: Tensor
    weight: Tensor | None


def orders(seed: int, round_number: int, client: int, samples: int, work: LocalWork) -> Iterator[Tensor]:
    """The sample indices of each of a client's steps, int64 `[b]`; the last batch of an epoch may be short."""
    steps = int(work.count(np.asarray(samples)))
    if work.batch_size is None:
        everything = torch.arange(samples)
        yield from (everything for _ in range(steps))
        return
    done, epoch = 0, 0
    while done < steps:
        key = keyed.bits(seed, keyed.Purpose.BATCHES, round_number, client, epoch, np.arange(samples))
        permutation = torch.from_numpy(np.argsort(key, kind="stable"))
        for batch in torch.split(permutation, work.batch_size)[: steps - done]:
            yield batch
            done += 1
        epoch += 1


def gather(shard: Shard, index: Tensor, info: DataInfo) -> Batch:
    """Fresh, aligned tensors of these samples, ready for the model."""
    index = index.to(shard.y.device, non_blocking=True)
    weight = None if shard.weight is None else shard.weight.index_select(0, index)
    return Batch(
        model_input(shard.x.index_select(0, index), info), target(shard.y.index_select(0, index), info), weight
    )


def model_input(x: Tensor, info: DataInfo) -> Tensor:
    """Stored features as the model takes them. The only place where uint8 is scaled: `x / 255` in float32."""
    if info.input_kind == "pixels":
        return x.to(torch.float32).div_(255.0)
    return x.to(torch.int64) if info.input_kind == "tokens" else x.to(torch.float32)


def target(y: Tensor, info: DataInfo) -> Tensor:
    """Stored targets as losses and metrics take them: int64 classes, or float32 numbers."""
    return y.to(torch.int64 if info.task == "classification" else torch.float32)


def _aligned(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], device: torch.device) -> Tensor:
    # torch allocates on 64-byte boundaries; a tensor that wraps the memory map would not be, and could be written to.
    copy = torch.empty(array.shape, dtype=_DTYPES[array.dtype.name], pin_memory=device.type == "cuda")
    copy.numpy()[...] = array
    return copy if device.type == "cpu" else copy.to(device, non_blocking=True)


_DTYPES = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "uint16": torch.int32,  # torch cannot index uint16
    "int32": torch.int32,
    "int64": torch.int64,
    "float32": torch.float32,
    "float64": torch.float64,
}
