"""Keyed sampling of clients in proportion to weights."""

from __future__ import annotations

import numpy as np

from raysim import keyed
from raysim.arrays import Float64, Int64


def without_replacement(
    seed: int, purpose: keyed.Purpose, round_number: int, clients: Int64, weights: Float64, count: int
) -> Int64:
    """`count` different clients, ascending, drawn one after the other in proportion to their weights among those left.

    The keys of Efraimidis & Spirakis (2006): the largest log(u_k) / w_k. Clients of weight 0 come last, by id.
    """
    draw = np.maximum(keyed.uniform(seed, purpose, round_number, clients), 2.0**-54)
    with np.errstate(divide="ignore"):
        keys = np.log(draw) / weights
    return np.sort(clients[np.argsort(-keys, kind="stable")[:count]])
