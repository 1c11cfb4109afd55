"""Clients in clusters of like labels, and cohorts that hold of each cluster what its size asks for."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from raysim import keyed
from raysim.arrays import Float64, Int64
from raysim.config.server import ClusteredConfig
from raysim.data import Federation
from raysim.errors import ConfigError

_CHUNK = 1 << 16


def clusters_of(seed: int, config: ClusteredConfig, federation: Federation) -> Int64:
    """The cluster of each client, `[population]`; found once for a federation.

    Raises:
        ConfigError: labels are not known, or there are fewer different histograms than clusters.
    """
    found = _FOUND.get(federation)
    if found is None or found[0] != (seed, config):
        histograms = federation.histograms()
        if histograms is None:
            raise ConfigError(
                "selection: clustered needs label histograms, which only classification with data.label_histograms has"
            )
        shares = histograms / np.maximum(histograms.sum(axis=1, keepdims=True), 1)
        distinct = len(np.unique(shares, axis=0))
        if distinct < config.clusters:
            raise ConfigError(
                f"selection.clusters: {config.clusters} clusters, but the clients have only {distinct} different label "
                "histograms; lower it"
            )
        found = (seed, config), k_means(seed, shares, config.clusters, config.iterations)
        _FOUND[federation] = found
    return found[1]


_FOUND: WeakKeyDictionary[Federation, tuple[tuple[int, ClusteredConfig], Int64]] = WeakKeyDictionary()


def k_means(seed: int, points: Float64, clusters: int, iterations: int) -> Int64:
    """Lloyd's algorithm from a k-means++ start (Arthur & Vassilvitskii 2007) with keyed draws.

    Args:
        seed: of the draws.
        points: `[n, d]`, at least `clusters` of them different.
        clusters: k.
        iterations: at most; it ends where no point moves.

    Returns:
        The cluster of each point, `[n]`; a point as near to two belongs to the first, an empty cluster stays in place.
    """
    draws = keyed.uniform(seed, keyed.Purpose.CLUSTERS, np.arange(clusters))
    centres = np.empty((clusters, points.shape[1]))
    centres[0] = points[int(draws[0] * len(points))]
    nearest = _distances(points, centres[:1])[:, 0]
    for i in range(1, clusters):
        total = np.cumsum(nearest)
        centres[i] = points[min(int(np.searchsorted(total, draws[i] * total[-1], side="right")), len(points) - 1)]
        nearest = np.minimum(nearest, _distances(points, centres[i : i + 1])[:, 0])
    labels: Int64 = np.full(len(points), -1, dtype=np.int64)
    for _ in range(iterations):
        moved = np.argmin(_distances(points, centres), axis=1)
        if np.array_equal(moved, labels):
            break
        labels = moved
        for i in np.unique(labels).tolist():
            centres[i] = points[labels == i].mean(axis=0)
    return labels


def draw_stratified(seed: int, round_number: int, size: int, labels: Int64) -> Int64:
    """`size` clients, ascending: systematic sampling of the clients in the order of their clusters.

    Within a cluster the order is keyed by the round. A cluster of n_c clients gets size · n_c / n of them, rounded up
    or down, and every client has the same probability size / n.
    """
    key = keyed.bits(seed, keyed.Purpose.COHORT, round_number, np.arange(len(labels)))
    order = np.lexsort((key, labels))
    start = float(keyed.uniform(seed, keyed.Purpose.CLUSTERS, round_number, 0))
    places = np.floor((np.arange(size) + start) * (len(labels) / size)).astype(np.int64)
    return np.sort(order[np.minimum(places, len(labels) - 1)])


def _distances(points: Float64, centres: Float64) -> Float64:
    """Squared distances `[n, k]`, to twelve digits, so that no library's order of summation decides a tie."""
    found = np.empty((len(points), len(centres)))
    for start in range(0, len(points), _CHUNK):
        part = points[start : start + _CHUNK]
        for i, centre in enumerate(centres):
            found[start : start + _CHUNK, i] = ((part - centre) ** 2).sum(axis=1)
    return found.round(12)
