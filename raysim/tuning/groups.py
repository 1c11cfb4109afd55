"""Groups of clients that share a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from raysim.aggregation import Weighting
from raysim.arrays import Float64, Int64
from raysim.config.server import WeightsConfig
from raysim.config.tuning import (
    AsConfiguredConfig,
    ClientWeightsConfig,
    ColumnWeightsConfig,
    GroupWeightsConfig,
    LabelWeightsConfig,
    SimplexConfig,
    SizeWeightsConfig,
)
from raysim.data import ArrowFederation, Federation
from raysim.errors import ConfigError
from raysim.keyed import Purpose, integer

MOST = 200
"""Weights that a study may look for; more cannot be found by trying."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Disjoint groups that together are the whole population.

    Attributes:
        names: of each group.
        of: the group of each client, `[population]`.
        share: how much each client counts within its group, `[population]`, summing to 1 in every group.
        base: weight of each group as the experiment has it, `[groups]`, summing to 1.
    """

    names: tuple[str, ...]
    of: Int64
    share: Float64
    base: Float64

    def table(self, weights: Float64) -> dict[int, float]:
        """Weight of each client, given those of the groups."""
        return dict(enumerate((weights[self.of] * self.share).tolist()))


def form_groups(config: SimplexConfig, federation: Federation, weights: WeightsConfig, seed: int) -> Groups | None:
    """The groups that `tuning.weights` describes; None where the weights are not varied.

    Args:
        weights: the experiment's own, which say how clients count within a group.
        seed: keys the clustering.

    Raises:
        ConfigError: a client does not exist or has no group, there are more groups than clients, or too many.
    """
    if isinstance(config, AsConfiguredConfig):
        return None
    if weights.name not in ("samples", "uniform", "explicit"):
        raise ConfigError(
            f"tuning.weights: aggregation.weights is {weights.name}, which a fixed table cannot express; set "
            "aggregation.weights to samples, uniform or explicit, or remove tuning.weights"
        )
    population = federation.population
    named = _named(config, federation, seed)
    if len(named) > population:
        raise ConfigError(f"tuning.weights: {len(named)} groups, but only {population} clients; ask for fewer groups")
    if len(named) < 2:
        raise ConfigError("tuning.weights: there is only one group, whose weight is always 1; ask for more")
    if len(named) > MOST:
        raise ConfigError(
            f"tuning.weights: {len(named)} weights are too many to be found by trying (at most {MOST}); use groups, or "
            "tune the numbers of aggregation.weights: law"
        )
    of = np.full(population, -1, dtype=np.int64)
    for index, members in enumerate(named.values()):
        of[members] = index
    if (of < 0).any():
        client = int(np.flatnonzero(of < 0)[0])
        raise ConfigError(f"tuning.weights: client {client} is in no group; put every client into one")
    return _with_shares(tuple(named), of, weights, federation)


def _named(config: SimplexConfig, federation: Federation, seed: int) -> Mapping[str, Int64]:
    population = federation.population
    if isinstance(config, ClientWeightsConfig):
        if population > MOST:
            raise ConfigError(
                f"tuning.weights: {population:,} clients are too many for a weight each (at most {MOST}); use sizes, "
                "labels or groups, or tune the numbers of aggregation.weights: law"
            )
        return {f"client {client}": np.array([client]) for client in range(population)}
    if isinstance(config, GroupWeightsConfig):
        return _listed(config.groups, population)
    if isinstance(config, ColumnWeightsConfig):
        return _by_column(config, federation)
    if isinstance(config, SizeWeightsConfig | LabelWeightsConfig) and config.groups > population:
        raise ConfigError(
            f"tuning.weights.groups: {config.groups} groups, but only {population} clients; ask for fewer groups"
        )
    if isinstance(config, SizeWeightsConfig):
        return _by_size(config.groups, federation)
    assert isinstance(config, LabelWeightsConfig)
    return _by_labels(config.groups, federation, seed)


def _listed(groups: Mapping[str, tuple[int, ...]], population: int) -> Mapping[str, Int64]:
    seen: dict[int, str] = {}
    for name, members in groups.items():
        if not members:
            raise ConfigError(f"tuning.weights.groups: group {name!r} has no clients; remove it")
        for client in members:
            if client >= population:
                raise ConfigError(
                    f"tuning.weights.groups: there is no client {client} (group {name!r}); clients are 0 to "
                    f"{population - 1}"
                )
            if client in seen:
                raise ConfigError(f"tuning.weights.groups: client {client} is in {seen[client]!r} and in {name!r}")
            seen[client] = name
    return {name: np.array(members, dtype=np.int64) for name, members in groups.items()}


def _by_column(config: ColumnWeightsConfig, federation: Federation) -> Mapping[str, Int64]:
    table = _read(config)
    for column in ("client", config.column):
        if column not in table.column_names:
            raise ConfigError(
                f"tuning.weights: {config.path} has no column {column!r}; it has {', '.join(table.column_names)}"
            )
    ids = _client_ids(federation)
    groups: dict[str, list[int]] = {}
    for client, value in zip(table["client"].to_pylist(), table[config.column].to_pylist(), strict=True):
        if str(client) not in ids:
            raise ConfigError(f"tuning.weights: {config.path} names client {client!r}, whom this federation lacks")
        groups.setdefault(str(value), []).append(ids[str(client)])
    return _listed({name: tuple(members) for name, members in sorted(groups.items())}, federation.population)


def _read(config: ColumnWeightsConfig) -> pa.Table:
    from pyarrow import csv, parquet

    path = Path(config.path).expanduser()
    try:
        return parquet.read_table(path.absolute()) if path.suffix == ".parquet" else csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"tuning.weights.path: {path} cannot be read ({str(error).splitlines()[0]})") from None


def _client_ids(federation: Federation) -> dict[str, int]:
    """Every client by its id, or by the natural owner that it stands for."""
    clients = range(federation.population)
    owners = [federation.owner(c) for c in clients] if isinstance(federation, ArrowFederation) else []
    if owners and owners[0] is not None:
        return {str(owner): client for client, owner in enumerate(owners)}
    return {str(client): client for client in clients}


def _by_size(count: int, federation: Federation) -> Mapping[str, Int64]:
    """Equally many clients in each group, from the smallest to the largest."""
    sizes = federation.sizes("train")
    parts = np.array_split(np.argsort(sizes, kind="stable"), count)
    return {f"{sizes[p].min()} to {sizes[p].max()} samples ({i + 1})": p for i, p in enumerate(parts)}


def _by_labels(count: int, federation: Federation, seed: int) -> Mapping[str, Int64]:
    histograms = federation.histograms()
    if histograms is None:
        raise ConfigError(
            "tuning.weights: labels needs label histograms, which only classification with data.label_histograms has"
        )
    from sklearn.cluster import KMeans

    shares = histograms / np.maximum(histograms.sum(axis=1, keepdims=True), 1)
    distinct = len(np.unique(shares, axis=0))
    if distinct < count:
        raise ConfigError(f"tuning.weights.groups: {count} groups, but only {distinct} different label histograms")
    state = integer(seed, Purpose.GROUPS) % 2**31
    found = KMeans(count, n_init=10, random_state=state).fit_predict(shares)
    first = sorted(range(count), key=lambda group: int(np.flatnonzero(found == group)[0]))
    members = [np.flatnonzero(found == group) for group in first]
    return {f"labels {_most(histograms[m].sum(axis=0))} ({i + 1})": m for i, m in enumerate(members)}


def _most(counts: Int64) -> str:
    """The labels that make up most of a histogram."""
    order = np.argsort(-counts, kind="stable")
    needed = int(np.searchsorted(np.cumsum(counts[order]), 0.6 * counts.sum())) + 1
    return ", ".join(str(label) for label in sorted(order[: min(needed, 4)].tolist()))


def _with_shares(names: tuple[str, ...], of: Int64, weights: WeightsConfig, federation: Federation) -> Groups:
    clients = np.arange(federation.population)
    base = Weighting(weights).base(clients, federation.sizes("train"))
    if not base.any():
        raise ConfigError("tuning.weights: the experiment's own weights of all clients are zero")
    total: Float64 = np.bincount(of, base, len(names)).astype(np.float64)
    members = np.bincount(of, minlength=len(names))
    share = np.where(total[of] > 0, base / np.where(total > 0, total, 1.0)[of], 1.0 / members[of])
    return Groups(names, of, share, total)
