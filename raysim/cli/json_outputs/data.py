"""Outputs of `raysim data build` and `data show`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysim.config.parsing import values_of
from raysim.data import ClientPart, Federation, FederationSpec
from raysim.data.left_out import LeftOut
from raysim.data.store import ArrowFederation, StoreSpec
from raysim.data.summary import Summary, describe

SHOWN = 5
"""Clients of each group that are shown: the first, the largest, the smallest."""
PARTS: tuple[ClientPart, ...] = ("train", "holdout", "test")


@dataclass(frozen=True, slots=True)
class DataOutput(Summary):
    """A federation in a few numbers.

    Attributes:
        counts: of a corpus: documents, tokens and the like, by name.
        left_out: samples that are in no shard and in no set, and why.
        shards: their folder; null where they are made on the workers when they are needed.
    """

    counts: Mapping[str, int]
    left_out: tuple[LeftOut, ...]
    shards: str | None

    @classmethod
    def of(cls, spec: FederationSpec, federation: Federation) -> DataOutput:
        """Facts of an open federation."""
        return cls(
            **values_of(describe(federation)),
            counts=dict(federation.counts()),
            left_out=tuple(federation.left_out()),
            shards=folder(spec),
        )


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """The shards of a federation are there.

    Attributes:
        name: of the experiment.
        data: clients and samples.
        verified: every file is as it was written; null where that was not asked for, or nothing is stored.
        rows: the table of `--rows`; null without it.
    """

    name: str
    data: DataOutput
    verified: bool | None
    rows: Path | None


@dataclass(frozen=True, slots=True)
class ShownClient:
    """A client that is shown as an example.

    Attributes:
        group: `first`, `largest` or `smallest`; empty where all clients are shown.
        client: its id.
        train: training samples.
        holdout: samples that it holds out.
        test: samples of the test set that are its own.
        owner: its name in the data, where they have one.
        labels: training samples of each label, the most frequent first; null where targets are no classes.
        targets: the smallest and the largest target; null where they are classes, or there are none.
    """

    group: str
    client: int
    train: int
    holdout: int
    test: int
    owner: str | None
    labels: Mapping[str, int] | None
    targets: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ShowOutput:
    """A partition, and some of its clients.

    Attributes:
        name: of the experiment.
        data: clients and samples.
        clients: some of them, or all where they are few.
        picture: of clients by labels.
    """

    name: str
    data: DataOutput
    clients: tuple[ShownClient, ...]
    picture: Path


def folder(spec: FederationSpec) -> str | None:
    """Where the shards are; None where they are not stored."""
    return spec.path if isinstance(spec, StoreSpec) else None


def shown_clients(federation: Federation) -> tuple[ShownClient, ...]:
    """Clients to show: the first, the largest and the smallest, or all."""
    by_size = np.argsort(-federation.sizes("train"), kind="stable")
    groups = {
        "first": np.arange(federation.population)[:SHOWN],
        "largest": by_size[:SHOWN],
        "smallest": by_size[-SHOWN:],
    }
    if federation.population <= len(groups) * SHOWN:
        groups = {"": np.arange(federation.population)}
    return tuple(_shown(federation, client, group) for group, clients in groups.items() for client in clients.tolist())


def _shown(federation: Federation, client: int, group: str) -> ShownClient:
    y = federation.shard(client).y
    labels, targets = None, None
    if federation.info.classes is not None:
        found, counts = np.unique(y, return_counts=True)
        names = federation.info.class_names
        order = np.argsort(-counts, kind="stable").tolist()
        labels = {str(found[i] if names is None else names[found[i]]): int(counts[i]) for i in order}
    elif len(y):
        targets = float(y.min()), float(y.max())
    train, holdout, test = (int(federation.sizes(part, np.array([client]))[0]) for part in PARTS)
    owner = federation.owner(client) if isinstance(federation, ArrowFederation) else None
    return ShownClient(group, client, train, holdout, test, owner, labels, targets)
