"""Synthetic(alpha, beta) of FedProx (Li et al. 2020, "Federated Optimization in Heterogeneous Networks", section 5.1).

Client k labels its data with a softmax regression of its own, y = argmax(x W_k + b_k):

    u_k ~ N(0, alpha)    W_k, b_k ~ N(u_k, 1)              alpha: how much the clients' models differ
    B_k ~ N(0, beta)     v_k ~ N(B_k, 1)                   beta: how much the clients' data differ
                         x ~ N(v_k, diag(j^-1.2))          j = 1, 2, …, dimensions
    n_k = int(lognormal(4, sigma)) + 50                    sigma = 2 in the paper

alpha and beta are standard deviations, as in the authors' code. In the IID variant v = 0 and all share W, b ~ N(0, 1).
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np

from raysim.arrays import Float32, Float64, Int64
from raysim.config.sources import SyntheticConfig
from raysim.data.dataset import Dataset, Pool
from raysim.data.federation import DataInfo
from raysim.data.room import check_room
from raysim.keyed import Purpose, generator, uniform


class _Stream(IntEnum):
    """Separates the keys of the shared model, of the sizes and of the clients. Values are part of every result."""

    SHARED_MODEL = 0
    SIZE = 1
    CLIENT = 2


def synthetic_client(
    seed: int,
    client: int,
    n: int,
    *,
    alpha: float = 0.0,
    beta: float = 0.0,
    iid: bool = False,
    dimensions: int = 60,
    classes: int = 10,
) -> tuple[Float32, Int64]:
    """The first n samples of one client: x `[n, dimensions]` float32 and y `[n]` int64 in 0..classes-1.

    A pure function of its arguments; the first samples are the same for every n. `client` may be any non-negative
    integer, so a test set can be drawn from clients outside the population.
    """
    random = generator(seed, Purpose.SYNTHETIC, _Stream.CLIENT, client)
    if iid:
        w, b = _shared_model(seed, dimensions, classes)
        centre = np.zeros(dimensions)
    else:
        u, b_k = random.standard_normal(2) * (alpha, beta)
        w = random.normal(u, 1.0, (dimensions, classes))
        b = random.normal(u, 1.0, classes)
        centre = random.normal(b_k, 1.0, dimensions)
    deviation = np.arange(1, dimensions + 1) ** -0.6
    # Rounded before labelling, so that a label is a function of the features that are stored.
    x = (centre + random.standard_normal((n, dimensions)) * deviation).astype(np.float32)
    return x, np.argmax(x @ w + b, axis=1)


@lru_cache(maxsize=8)
def _shared_model(seed: int, dimensions: int, classes: int) -> tuple[Float64, Float64]:
    random = generator(seed, Purpose.SYNTHETIC, _Stream.SHARED_MODEL)
    w, b = random.standard_normal((dimensions, classes)), random.standard_normal(classes)
    w.flags.writeable = b.flags.writeable = False
    return w, b


def synthetic_sizes(seed: int, clients: int, sigma: float = 2.0) -> Int64:
    """Samples of each client, int(lognormal(4, sigma)) + 50, int64 `[clients]`; one's does not depend on the others."""
    who = np.arange(clients)
    u, v = (uniform(seed, Purpose.SYNTHETIC, _Stream.SIZE, who, draw) for draw in (0, 1))
    normal = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)  # Box & Muller 1958
    sizes: Int64 = np.exp(4 + sigma * normal).astype(np.int64) + 50
    return sizes


def load_synthetic(config: SyntheticConfig, seed: int) -> Dataset:
    """Every client's samples in one pool, with the client as natural owner."""
    sizes = synthetic_sizes(seed, config.clients, config.sigma)
    model, samples = 8 * config.dimensions * config.classes, int(sizes.sum())
    check_room(
        samples * (4 * config.dimensions + 16) + model,
        "data.source",
        f"synthetic with {samples:,} samples of {config.dimensions:,} dimensions",
        "lower clients, sigma, dimensions or classes, or use synthetic_virtual",
    )
    x = np.empty((sizes.sum(), config.dimensions), np.float32)
    y = np.empty(len(x), np.int64)
    options = config.model_dump(include={"alpha", "beta", "iid", "dimensions", "classes"})
    for client, (size, end) in enumerate(zip(sizes.tolist(), np.cumsum(sizes).tolist(), strict=True)):
        part = slice(end - size, end)
        x[part], y[part] = synthetic_client(seed, client, size, **options)
    pool = Pool(x, y, "real", "synthetic", np.repeat(np.arange(config.clients), sizes))
    return Dataset(pool, None, DataInfo("classification", (config.dimensions,), "real", (), config.classes))
