"""Label counts of clients, and what a loss makes of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Int64
from raysim.data import Federation
from raysim.errors import ConfigError
from raysim.training import BalancedLoss, Loss, to_device


class LossContexts:
    """What the training loss is told about clients, where it wants to be told anything."""

    def __init__(self, loss: Loss | BalancedLoss, federation: Federation, device: torch.device) -> None:
        """Raises:
        ConfigError: the loss needs the federation's label counts, and they were not counted.
        """
        self._loss, self._federation, self._device = loss, federation, device
        self._population: Int64 | None = None
        self._stored = federation.histograms() if isinstance(loss, BalancedLoss) else None
        if isinstance(loss, BalancedLoss) and loss.looks_at_federation:
            if self._stored is None:
                raise ConfigError(
                    f"training.{loss.looks_at_federation} looks at the labels of all clients, which were not counted; "
                    "set data.label_histograms (for synthetic_virtual also data.source.on_disk)"
                )
            self._population = self._stored.sum(axis=0, dtype=np.int64)

    def of(self, clients: Int64) -> Tensor | None:
        """Of these clients, float32 `[k, …]` on the device; None where the loss looks at samples alone."""
        if not isinstance(self._loss, BalancedLoss):
            return None
        if self._stored is not None:
            own = self._stored[clients].astype(np.int64)
        else:
            classes = self._federation.info.classes or 0
            shards = (self._federation.shard(client) for client in clients.tolist())
            own = np.stack([np.bincount(shard.y, minlength=classes) for shard in shards])
        return to_device(self._loss.context(own, self._population), self._device)
