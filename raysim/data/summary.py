"""A federation in a few numbers: how many clients, how unequal, how skewed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.federation import Federation

INSPECTED = 1000
"""Clients whose labels are looked at where the population is larger, evenly spread over it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What `raysim data show` prints."""

    clients: int
    """Of the federation."""
    samples: int
    """Training samples of all clients."""
    smallest: int
    """Training samples of the client that has fewest."""
    median: float
    """The same of the median client."""
    largest: int
    """The same of the client that has most."""
    holdout: int
    """Held-out samples of all clients."""
    validation: int
    """Samples of the validation set."""
    test: int
    """Samples of the test set."""
    owned: int
    """Samples of the test set that are some client's own."""
    skew: float | None
    """Mean over clients of the total variation distance between a client's label distribution and that of all: 0 for
    identical distributions, towards 1 for one rare label each. None without class labels. Small clients differ by
    chance alone."""
    classes_per_client: float | None
    """Mean over clients of the effective number of labels, exp(entropy): k for k labels equally often."""
    inspected: int
    """Clients whose labels these two figures are taken from."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Label histograms of some clients."""

    clients: Int64
    """`[n]` client ids, ascending."""
    counts: Array
    """`[n, classes]` training samples of each label."""

    @property
    def shares(self) -> Array:
        """`[n, classes]` label distribution of each client; zero for a client without samples."""
        shares: Array = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return shares


def describe(federation: Federation, limit: int = INSPECTED) -> Summary:
    """Sizes and label skew of a federation; the skew from at most `limit` clients.

    Raises:
        DataError: a shard cannot be read.
    """
    sizes = federation.sizes("train")
    labels = count_labels(federation, limit)
    skew = classes = None
    if labels is not None:
        counts = labels.counts[labels.counts.sum(axis=1) > 0]
        shares = LabelCounts(labels.clients, counts).shares
        pooled = counts.sum(axis=0) / max(1, counts.sum())
        skew = float(0.5 * np.abs(shares - pooled).sum(axis=1).mean()) if len(counts) else 0.0
        logarithms = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
        classes = float(np.exp(-(shares * logarithms).sum(axis=1)).mean()) if len(counts) else 0.0
    validation, test = federation.server("validation"), federation.server("test")
    return Summary(
        clients=federation.population,
        samples=int(sizes.sum()),
        smallest=int(sizes.min()),
        median=float(np.median(sizes)),
        largest=int(sizes.max()),
        holdout=int(federation.sizes("holdout").sum()),
        validation=0 if validation is None else len(validation),
        test=0 if test is None else len(test),
        owned=int(federation.sizes("test").sum()),
        skew=skew,
        classes_per_client=classes,
        inspected=0 if labels is None else len(labels.clients),
    )


def count_labels(federation: Federation, limit: int = INSPECTED) -> LabelCounts | None:
    """Label histograms of at most `limit` clients, from the store or from their shards; None without class labels.

    Raises:
        DataError: a shard cannot be read.
    """
    info = federation.info
    if info.classes is None or info.target_shape or info.preferences:
        return None
    if federation.population <= limit:
        clients = np.arange(federation.population)
    else:
        clients = np.linspace(0, federation.population - 1, limit).astype(np.int64)
    stored = federation.histograms()
    if stored is not None:
        return LabelCounts(clients, stored[clients])
    counts = [np.bincount(federation.shard(int(client)).y, minlength=info.classes) for client in clients]
    return LabelCounts(clients, np.stack(counts))
