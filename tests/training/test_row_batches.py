"""What the rows of a block see in each step, against a loop over clients and samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysim.data import DataInfo, Samples
from raysim.training import LocalWork, Shard, Shards, row_batches
from raysim.training.batches import BatchPlan
from raysim.training.engine import Block
from raysim.training.row_batches import RowBatches

CPU = torch.device("cpu")
BATCH = 4
SIZES = np.array([23, 9, 9, 1])
INFOS = {
    "pixels": DataInfo("classification", (1, 3, 2), "pixels", classes=5),
    "real": DataInfo("classification", (6,), "real", classes=5),
    "real_of_17": DataInfo("classification", (17,), "real", classes=5),
    "tokens": DataInfo("classification", (3,), "tokens", target_shape=(3,), classes=5, vocabulary=5),
}


def pool(info: DataInfo, *, weighted: bool) -> Shard:
    draw = np.random.default_rng(0)
    count, shape = int(SIZES.sum()), info.input_shape
    stored = {
        "pixels": draw.integers(0, 256, (count, *shape), dtype=np.uint8),
        "real": draw.normal(size=(count, *shape)).astype(np.float32),
        "tokens": draw.integers(0, 5, (count, *shape), dtype=np.int64),
    }[info.input_kind]
    y = draw.integers(0, 5, (count, *info.target_shape))
    weight = draw.random((count, *info.target_shape)).astype(np.float32) if weighted else None
    return Shard.load(Samples(stored, y, weight), CPU)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("room", [1, 40, 1 << 18], ids=["one_step", "some_steps", "all_steps"])
@pytest.mark.parametrize("kind", INFOS)
def test_every_step_has_the_samples_of_the_plan(
    kind: str, room: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_batches, "_GATHERED", room)
    info, clients = INFOS[kind], np.arange(len(SIZES))
    samples = pool(info, weighted=weighted)
    shards = Shards(samples, np.cumsum(SIZES) - SIZES, SIZES)
    plan = BatchPlan.draw(3, 2, clients, SIZES, LocalWork(BATCH, epochs=2))
    batches = RowBatches(info, BATCH, len(clients), torch.empty(1))
    batches.load(Block(shards, plan, clients), len(clients))
    last = 0
    for end in sorted(set(plan.steps.tolist())):
        width = max(2, int(np.count_nonzero(plan.steps >= end)))
        stretch = batches.of(range(last, end), width)
        for step in [*range(last, end), last]:  # the last one once more: it was let go where there is little room
            x, y, share = stretch.batch(step)
            assert x.shape == (width, BATCH, *info.input_shape)
            for client in range(width):
                count = plan.count[step, client]
                chosen = torch.from_numpy(shards.start[client] + plan.index[step, client, :count])
                stored = samples.x[chosen]
                seen = stored.float() / 255 if kind == "pixels" else stored
                assert torch.equal(x[client, :count], seen)
                assert torch.equal(y[client, :count], samples.y[chosen])
                counts = torch.ones(y[client, :count].shape) if samples.weight is None else samples.weight[chosen]
                torch.testing.assert_close(share[client, :count], counts / max(float(counts.sum()), 1e-30))
                assert not share[client, count:].any()
        last = end
