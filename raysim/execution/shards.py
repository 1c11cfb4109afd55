"""A worker's shards on its device: each client's samples travel there once, and the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch

from raysim.data import Federation
from raysim.training import Shard


class DeviceShards:
    """Training shards by client, within a budget of bytes; a block in use may exceed it."""

    def __init__(self, federation: Federation, device: torch.device, budget: int) -> None:
        self._federation, self._device, self._budget = federation, device, budget
        self._held: OrderedDict[int, Shard] = OrderedDict()
        self._bytes = 0

    def of(self, clients: Iterable[int]) -> list[Shard]:
        """The shards of these clients, in their order.

        Raises:
            DataError: a shard cannot be read.
        """
        found = [self._shard(client) for client in clients]
        while self._bytes > self._budget and self._held:
            _, oldest = self._held.popitem(last=False)
            self._bytes -= oldest.nbytes
        return found

    def _shard(self, client: int) -> Shard:
        shard = self._held.get(client)
        if shard is None:
            shard = Shard.load(self._federation.shard(client), self._device)
            self._held[client] = shard
            self._bytes += shard.nbytes
        else:
            self._held.move_to_end(client)
        return shard
