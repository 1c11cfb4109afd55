"""Clients that exist only while they are used: each shard is made from (seed, client)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from raysim.arrays import Int64
from raysim.config.sources import SyntheticVirtualConfig
from raysim.data.federation import ClientPart, DataInfo, Federation, Samples, ServerPart
from raysim.data.room import check_room
from raysim.data.sources.synthetic import synthetic_client
from raysim.data.split import holdout_sizes
from raysim.errors import DataError

VIRTUAL_VERSION = 1
"""Part of every fingerprint: raise it when a client's samples change."""


@dataclass(frozen=True, slots=True)
class VirtualSpec:
    """All that the clients are made of."""

    source: SyntheticVirtualConfig
    seed: int
    holdout: float = 0.0
    """Share of each client's samples that is held out."""
    validation: bool = False
    """Whether the server has a validation set, as large as its test set."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any sample, or any client's share, does."""
        source = self.source.model_dump(mode="json", exclude={"on_disk"})
        key = [VIRTUAL_VERSION, source, self.seed, self.holdout, self.validation]
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()

    def open(self) -> VirtualFederation:
        """Open it; costs nothing, whatever the population."""
        return VirtualFederation(self)


def check_virtual_room(source: SyntheticVirtualConfig) -> None:
    """Refuse a population, a shard or a test set that memory cannot hold.

    Raises:
        DataError: one line with the estimate.
    """
    largest = max(source.samples, source.test_samples) * source.dimensions
    check_room(
        16 * source.clients + 4 * largest + 8 * source.dimensions * source.classes,
        "data.source",
        f"synthetic_virtual with {source.clients:,} clients of {source.samples:,} samples in {source.dimensions:,} "
        f"dimensions, and {source.classes:,} classes,",
        "lower the largest of them",
    )


class VirtualFederation(Federation):
    """FedProx's Synthetic(alpha, beta) for any population (Li et al. 2020, section 5.1; see `sources.synthetic`).

    A client's samples are independent draws, so its held-out samples are simply the last ones. The server's test set
    comes from clients outside the population, its validation set from others yet.
    """

    def __init__(self, spec: VirtualSpec) -> None:
        """The federation that `spec` describes."""
        source = spec.source
        self.spec = spec
        self.info = DataInfo("classification", (source.dimensions,), "real", (), source.classes)
        self.population = source.clients
        self.fingerprint = spec.fingerprint
        self._server: dict[ServerPart, Samples] = {}

    def sizes(self, part: ClientPart = "train", clients: Int64 | None = None) -> Int64:
        """Number of samples of these clients (default: of all), int64 `[len(clients)]`."""
        ids = np.arange(self.population) if clients is None else np.asarray(clients, dtype=np.int64)
        if part == "test":
            return np.zeros(len(ids), dtype=np.int64)
        samples = np.full(len(ids), self.spec.source.samples)
        holdout = holdout_sizes(samples, self.spec.holdout, self.spec.seed, ids)
        return holdout if part == "holdout" else samples - holdout

    def shard(self, client: int, part: ClientPart = "train") -> Samples:
        """The samples of one client, made now.

        Raises:
            DataError: there is no such client.
        """
        if not 0 <= client < self.population:
            raise DataError(f"synthetic_virtual: there is no client {client}; clients are 0 to {self.population - 1}")
        held = int(self.sizes("holdout", np.array([client]))[0])
        middle = self.spec.source.samples - held
        whole = self.block(client, client + 1)
        chosen = {"train": slice(0, middle), "holdout": slice(middle, None), "test": slice(0, 0)}[part]
        return Samples(whole.x[chosen], whole.y[chosen])

    def server(self, part: ServerPart) -> Samples | None:
        """The server's validation or test set; made once. None if there is none."""
        if part == "validation" and not self.spec.validation:
            return None
        if part not in self._server:
            source = self.spec.source
            clients = -(-source.test_samples // source.samples)
            first = self.population + (clients if part == "validation" else 0)
            block = self.block(first, first + clients)
            self._server[part] = Samples(block.x[: source.test_samples], block.y[: source.test_samples])
        return self._server[part]

    def block(self, first: int, last: int) -> Samples:
        """All samples of clients first … last-1, client after client, each client's held-out samples last."""
        source = self.spec.source
        x = np.empty((last - first, source.samples, source.dimensions), np.float32)
        y = np.empty((last - first, source.samples), np.int64)
        for i in range(last - first):
            x[i], y[i] = synthetic_client(
                self.spec.seed,
                first + i,
                source.samples,
                alpha=source.alpha,
                beta=source.beta,
                iid=source.iid,
                dimensions=source.dimensions,
                classes=source.classes,
            )
        x.flags.writeable = y.flags.writeable = False
        return Samples(x.reshape(-1, source.dimensions), y.reshape(-1))
