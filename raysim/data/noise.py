"""Wrong labels for some clients, so that it is known which clients should count less."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config.data import LabelNoiseConfig
from raysim.data.federation import DataInfo
from raysim.errors import DataError
from raysim.keyed import Purpose, bits


def check_noise(noise: LabelNoiseConfig, info: DataInfo, population: int) -> None:
    """Refuse noise that this data cannot have.

    Raises:
        DataError: a client does not exist, or a sample has no label of its own.
    """
    if not noise.clients:
        return
    if info.task != "classification" or info.target_shape or (info.classes or 0) < 2:
        raise DataError("data.noise: only samples with one label of two classes or more can be mislabelled; remove it")
    unknown = [client for client in noise.clients if client >= population]
    if unknown:
        raise DataError(f"data.noise.clients: there is no client {unknown[0]}; clients are 0 to {population - 1}")


def mislabelled(noise: LabelNoiseConfig, labels: Array, client: int, classes: int, seed: int) -> Array:
    """A client's training labels `[n]` as its noise has them: exactly `fraction` of them, rounded, are another class.

    Which samples, and to which classes, is keyed by (seed, client, place); the argument is only read.
    """
    if client not in noise.clients:
        return labels
    place: Int64 = np.arange(len(labels))
    score, shift = (bits(seed, Purpose.LABEL_NOISE, client, what, place) for what in (0, 1))
    chosen = np.argsort(score, kind="stable")[: round(noise.fraction * len(labels))]
    wrong = labels.copy()
    step = 1 + (shift[chosen] % np.uint64(classes - 1)).astype(np.int64)
    wrong[chosen] = (labels[chosen].astype(np.int64) + step) % classes
    return wrong
