"""The order of one client's samples as a plain loop: what `BatchPlan.draw` computes for many clients at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.training import LocalWork


def orders(seed: int, round_number: int, client: int, samples: int, work: LocalWork) -> Iterator[Tensor]:
    """The sample indices of each of a client's steps, int64 `[b]`; the last batch of an epoch may be short."""
    steps = int(work.count(np.asarray(samples)))
    if work.batch_size is None:
        yield from (torch.arange(samples) for _ in range(steps))
        return
    done, epoch = 0, 0
    while done < steps:
        key = [int(keyed.bits(seed, keyed.Purpose.BATCHES, round_number, client, epoch, i)) for i in range(samples)]
        permutation = torch.tensor(sorted(range(samples), key=key.__getitem__))
        for batch in torch.split(permutation, work.batch_size)[: steps - done]:
            yield batch
            done += 1
        epoch += 1
