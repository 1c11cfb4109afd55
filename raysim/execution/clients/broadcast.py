"""What of the server's state travels to clients beside the model: vectors of the algorithm, and of the stages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Aggregation
from raysim.algorithms import Algorithm
from raysim.arrays import Float32, Float64
from raysim.execution.clients.state import split_vectors
from raysim.training import ParameterLayout, copied


class SharedVectors:
    """Packs these vectors into one, and takes them apart again.

    Attributes:
        values: of all of them.
        of_stages: of those of the stages.
    """

    def __init__(self, algorithm: Algorithm, aggregation: Aggregation, layout: ParameterLayout) -> None:
        self._algorithm, self._aggregation = algorithm, aggregation
        self._sizes: dict[str, int] = {}
        if algorithm.broadcast_state:
            first = algorithm.init(np.zeros(layout.size, np.float32))
            self._sizes = {name: len(first[name]) for name in algorithm.broadcast_state}
        if any(stage.broadcast for stage in aggregation.stages):
            vectors = aggregation.broadcast(aggregation.init(np.zeros(layout.size, np.float32)))
            self._sizes |= {name: len(vector) for name, vector in vectors.items()}
        self.values = sum(self._sizes.values())
        self.of_stages = self.values - sum(self._sizes[name] for name in algorithm.broadcast_state)

    def pack(self, state: Mapping[str, Float64]) -> Float32 | None:
        """The vectors of a state, one after the other in float32; None where there are none."""
        if not self._sizes:
            return None
        return np.concatenate([state[name] for name in self._sizes]).astype(np.float32)

    def unpack(self, shared: Float32 | None, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Those of the algorithm, and those of the stages, by name on a device; in memory of their own."""
        if shared is None:
            return {}, {}
        found = split_vectors(self._sizes, copied(shared, device))
        own = {name: found.pop(name) for name in self._algorithm.broadcast_state}
        return own, found
