"""A worker's shards on its device: each client's samples travel there once, as long as there is room."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from math import prod

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Int64
from raysim.data import Federation, Samples
from raysim.training import Shard, Shards, copy_into


class DeviceShards:
    """Training shards side by side in one tensor, so that a block's batches are gathered from it without a copy.

    The tensor is filled from its beginning to its end, then from its beginning again, over what came first. With
    cohorts drawn at random that is as good as any other order to let go of shards.
    """

    def __init__(self, federation: Federation, device: torch.device, budget: int) -> None:
        """Hold shards within a budget of bytes; a single block may exceed it."""
        self._federation, self._device, self._budget = federation, device, budget
        self._held: OrderedDict[int, tuple[int, int]] = OrderedDict()  # client: start and end, the first to go first
        self._empty: set[int] = set()
        self._pool: Shard | None = None
        self._end = 0

    def of(self, clients: Int64) -> Shards:
        """The shards of these clients.

        Raises:
            DataError: a shard cannot be read.
        """
        spans = self._spans(clients)
        if spans is None:
            known = self._held.keys() | self._empty
            self._take([client for client in dict.fromkeys(clients.tolist()) if client not in known])
            spans = self._spans(clients)
        if spans is None:  # some went when others came
            self._forget()
            self._take(list(dict.fromkeys(clients.tolist())))
            spans = self._spans(clients)
        assert spans is not None, "there is room for a block"
        assert self._pool is not None, "there is at least one client"
        return Shards(self._pool, spans[:, 0], spans[:, 1] - spans[:, 0])

    def prefetch(self, clients: Int64) -> None:
        """Take in shards that will be asked for next: the first of them, as many as there is room for.

        Raises:
            DataError: a shard cannot be read.
        """
        if self._pool is None:
            return
        fits = clients[: np.searchsorted(np.cumsum(self._federation.sizes("train", clients)), len(self._pool), "right")]
        self._take([client for client in fits.tolist() if client not in self._held and client not in self._empty])

    def _spans(self, clients: Int64) -> Int64 | None:
        """Start and end of each client `[k, 2]`, if all of them are held."""
        spans = [(0, 0) if client in self._empty else self._held.get(client) for client in clients.tolist()]
        return None if None in spans else np.array(spans, dtype=np.int64).reshape(-1, 2)

    def _take(self, clients: list[int]) -> None:
        shards = [self._federation.shard(client) for client in clients]
        self._empty |= {client for client, samples in zip(clients, shards, strict=True) if not len(samples)}
        size = sum(len(samples) for samples in shards)
        if self._pool is None or size > len(self._pool):
            self._pool = self._room(Shard.load(shards[0].slice(0, 0), self._device), size)
            self._forget()
        for client, samples in zip(clients, shards, strict=True):
            if not len(samples):
                continue
            start = self._place(len(samples))
            _write(self._pool, samples, start)
            self._held[client] = start, self._end

    def _forget(self) -> None:
        self._held.clear()
        self._end = 0

    def _place(self, size: int) -> int:
        """The place of the next samples; clients that are there are let go."""
        assert self._pool is not None
        start = self._end if self._end + size <= len(self._pool) else 0
        if start < self._end:  # around the corner: what lies beyond the end is the oldest
            self._let_go(self._end, len(self._pool))
        self._let_go(start, start + size)
        self._end = start + size
        return start

    def _let_go(self, start: int, end: int) -> None:
        while self._held:
            client, (first, last) = next(iter(self._held.items()))
            if first >= end or last <= start:
                return
            del self._held[client]

    def _room(self, like: Shard, size: int) -> Shard:
        """An empty pool for the budget, but not for fewer than `size` samples, nor for more than there are."""
        tensors = [tensor for tensor in (like.x, like.y, like.weight) if tensor is not None]
        bytes_each = max(sum(tensor.shape[1:].numel() * tensor.element_size() for tensor in tensors), 1)
        total = int(self._federation.sizes("train").sum())
        count = max(size, min(total, self._budget // bytes_each))
        return Shard(
            _room(like.x, count), _room(like.y, count), None if like.weight is None else _room(like.weight, count)
        )


def _room(like: Tensor, count: int) -> Tensor:
    """Room for a number of samples, which is filled little by little.

    On a CPU it is a mapping of its own, in small pages. torch's own large tensors are in huge ones
    (`raysim.cluster.memory`), each of which is found and cleared as a whole at its first byte: while a client trains.
    """
    shape = (count, *like.shape[1:])
    size = prod(shape) * like.element_size()
    if like.device.type != "cpu" or not size:
        return like.new_empty(shape)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=like.dtype).view(shape)


def _write(pool: Shard, samples: Samples, start: int) -> None:
    part = slice(start, start + len(samples))
    copy_into(pool.x[part], samples.x)
    copy_into(pool.y[part], samples.y)
    if pool.weight is not None and samples.weight is not None:
        copy_into(pool.weight[part], samples.weight)
