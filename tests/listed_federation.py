"""A federation given as lists of sizes, for tests that need no data source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysim.data import DataInfo, Federation, Samples
from raysim.data.federation import ClientPart, Int64, ServerPart

_STREAM: dict[ClientPart, int] = {"train": 0, "holdout": 1, "test": 1_000_000}
"""Seeds of a part's samples begin here."""


class ListedFederation(Federation):
    """Clients of these sizes; each sample is four random numbers and one of three classes."""

    info = DataInfo("classification", (4,), "real", classes=3)

    def __init__(
        self,
        train: Sequence[int],
        holdout: Sequence[int] = (),
        tests: Sequence[int] = (),
        *,
        validation: int = 0,
        test: int | None = 0,
    ) -> None:
        self.population = len(train)
        self.fingerprint = f"{list(train)} {list(holdout)}"
        parts = {"train": train, "holdout": holdout or [0] * len(train), "test": tests or [0] * len(train)}
        self._sizes = {part: np.array(sizes, dtype=np.int64) for part, sizes in parts.items()}
        self._server = {"validation": validation or None, "test": test}

    def sizes(self, part: ClientPart = "train", clients: Int64 | None = None) -> Int64:
        sizes = self._sizes[part]
        return sizes if clients is None else sizes[clients]

    def shard(self, client: int, part: ClientPart = "train") -> Samples:
        return _samples(int(self._sizes[part][client]), 2 * client + _STREAM[part])

    def server(self, part: ServerPart) -> Samples | None:
        count = self._server[part]
        return None if count is None else _samples(count, 1_000_003)


@dataclass(frozen=True, slots=True)
class ListedSpec:
    """Opens a federation that is at hand."""

    federation: Federation

    @property
    def fingerprint(self) -> str:
        return self.federation.fingerprint

    def open(self) -> Federation:
        return self.federation


def _samples(count: int, seed: int) -> Samples:
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((count, 4)).astype(np.float32), generator.integers(0, 3, count)
    x.flags.writeable = y.flags.writeable = False
    return Samples(x, y)
