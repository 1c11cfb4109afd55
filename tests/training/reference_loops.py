"""Small modules and samples, and the plain torch loop that the engines are measured against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from three_clients import drawn
from torch import Tensor, nn

from raysim.data import DataInfo, Samples
from raysim.training import BatchPlan, Block, Shard, Shards

IMAGES = DataInfo("classification", (1, 8, 8), "pixels", classes=10)

MODULES: dict[str, Callable[[], nn.Module]] = {
    "softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 13), nn.ReLU(), nn.Linear(13, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 10)
    ),
    "batch_norm": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10)
    ),
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Dropout(0.5), nn.Linear(20, 10)),
}


def module(name: str, seed: int = 0) -> nn.Module:
    """A module with weights drawn from the seed; the global generator is left alone."""
    return drawn(MODULES[name], seed)


def images(count: int, seed: int = 0, *, weighted: bool = False) -> Samples:
    """Random images `[count, 1, 8, 8]` uint8 with ten classes."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    weight = generator.uniform(0.1, 2.0, count).astype(np.float32) if weighted else None
    return Samples(x, generator.integers(0, 10, count), weight)


def block_of(samples: Sequence[Samples], batches: Sequence[Sequence[Tensor]], keys: Sequence[int] = ()) -> Block:
    """A block of clients on the CPU, each with these batches: indices `[b]` of its own samples."""
    steps = np.array([len(mine) for mine in batches])
    size = max((len(batch) for mine in batches for batch in mine), default=0)
    index = np.zeros((max(steps), len(batches), size), dtype=np.int64)
    count = np.zeros(index.shape[:2], dtype=np.int64)
    for client, mine in enumerate(batches):
        for step, batch in enumerate(mine):
            index[step, client, : len(batch)], count[step, client] = batch.numpy(), len(batch)
    shards = [Shard.load(one, torch.device("cpu")) for one in samples]
    return Block(
        Shards.join(shards), BatchPlan(index, count, steps), np.array(keys or range(len(batches)), dtype=np.int64)
    )


def mean_loss(model: nn.Module, samples: Samples, index: Tensor) -> Tensor:
    """The weighted mean cross-entropy of a batch, written out."""
    chosen = index.numpy()
    x = torch.from_numpy(samples.x[chosen]).float() / 255
    losses = F.cross_entropy(model(x), torch.from_numpy(samples.y[chosen]), reduction="none")
    if samples.weight is None:
        return losses.mean()
    weight = torch.from_numpy(samples.weight[chosen])
    return (weight * losses).sum() / weight.sum()


def plain_training(
    start: nn.Module,
    samples: Samples,
    batches: Iterable[Tensor],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    proximal: float = 0.0,
) -> tuple[nn.Module, list[float]]:
    """What everybody would write: a module, `torch.optim.SGD`, and a loop; the trained copy and the losses."""
    model = copy.deepcopy(start).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    losses = []
    for index in batches:
        loss = mean_loss(model, samples, index)
        optimizer.zero_grad()
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        for parameter, initial in zip(model.parameters(), start.parameters(), strict=True):
            assert parameter.grad is not None
            parameter.grad += proximal * (parameter.detach() - initial.detach())
        optimizer.step()
        losses.append(loss.item())
    return model, losses
