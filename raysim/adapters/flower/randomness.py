"""The global generators that apps draw from, set by key: code of other people's knows no keyed hashes.

Before the server program and before every message, the generators of Python's `random`, of NumPy and of torch (and of
TensorFlow, where a program has imported it) get a state that is a function of (seed, node, number of the message).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from raysim.keyed import Purpose, integer

SERVER, NODE, RUN = 0, 1, 2
"""What a key is for."""


def seed_everything(seed: int, *key: int) -> None:
    """Set the generators to what belongs to this key."""
    chosen = integer(seed, Purpose.FLOWER, *key)
    random.seed(chosen)
    np.random.seed(chosen % 2**32)  # noqa: NPY002  # the generator that the app may use
    torch.manual_seed(chosen)
    if (tensorflow := sys.modules.get("tensorflow")) is not None:
        tensorflow.random.set_seed(chosen % 2**31)


@contextmanager
def seeded(seed: int, *key: int) -> Iterator[None]:
    """The generators as they belong to this key; afterwards as they were before."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # of torch, without types
    gpus = torch.cuda.get_rng_state_all() if in_use else None
    seed_everything(seed, *key)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)


def node_ids(seed: int, nodes: int) -> list[int]:
    """Ids of the nodes, by partition: distinct positive numbers of 63 bits, a function of the seed."""
    ids: list[int] = []
    taken: set[int] = set()
    for node in range(nodes):
        attempt = 0
        while (chosen := integer(seed, Purpose.FLOWER, NODE, node, attempt)) in taken or chosen < 2:
            attempt += 1
        taken.add(chosen)
        ids.append(chosen)
    return ids


def run_id(seed: int) -> int:
    """The id of the run, likewise."""
    return max(2, integer(seed, Purpose.FLOWER, RUN))
