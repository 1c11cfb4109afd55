"""A federation whose training samples are all in one place, as they would be without a federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.federation import ClientPart, Federation, FederationSpec, Samples, ServerPart
from raysim.data.left_out import LeftOut


class PooledFederation(Federation):
    """Client 0 has the training samples of all clients, the others have none; holdouts stay with their clients."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self.info, self.population = federation.info, federation.population
        self.fingerprint = _pooled(federation.fingerprint)

    def sizes(self, part: ClientPart = "train", clients: Int64 | None = None) -> Int64:
        if part != "train":
            return self._federation.sizes(part, clients)
        asked = np.arange(self.population) if clients is None else clients
        return np.where(asked == 0, self._federation.sizes("train").sum(), 0)

    def shard(self, client: int, part: ClientPart = "train") -> Samples:
        if part != "train":
            return self._federation.shard(client, part)
        if client != 0:
            return self._federation.shard(client).slice(0, 0)
        owners = np.flatnonzero(self._federation.sizes("train"))
        shards = [self._federation.shard(owner) for owner in owners.tolist()] or [self._federation.shard(0)]
        weights = [shard.weight for shard in shards if shard.weight is not None]
        return Samples(
            np.concatenate([shard.x for shard in shards]),
            np.concatenate([shard.y for shard in shards]),
            np.concatenate(weights) if weights else None,
        )

    def server(self, part: ServerPart) -> Samples | None:
        return self._federation.server(part)

    def left_out(self) -> tuple[LeftOut, ...]:
        return self._federation.left_out()

    def counts(self) -> Mapping[str, int]:
        return self._federation.counts()

    def histograms(self) -> Array | None:
        found = self._federation.histograms()
        if found is None:
            return None
        pooled = np.zeros_like(found)
        pooled[0] = found.sum(axis=0)
        return pooled


@dataclass(frozen=True, slots=True)
class PooledSpec:
    """Opens a federation with its training samples in one place."""

    spec: FederationSpec

    @property
    def fingerprint(self) -> str:
        return _pooled(self.spec.fingerprint)

    def open(self) -> Federation:
        return PooledFederation(self.spec.open())


def _pooled(fingerprint: str) -> str:
    return f"{fingerprint}, pooled"
