"""The modular road: sums of integers modulo a power of two, masked on the worker and opened on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.protocol import Peers, SumOpening
from raysim.aggregation.records import WEIGHT, ColumnSums, Field, PartialSum, Record, combine
from raysim.aggregation.rules import Accumulator, Finished, Integers, ServerView, WeightedMean
from raysim.aggregation.running_sum import Named, RunningSum
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Array, Float64, Int32, Int64
from raysim.config.protection import IntegersConfig, MaskedConfig, SecAggPlusConfig, UnmaskedConfig
from raysim.errors import ConfigError, RunError
from raysim.privacy.secagg import shamir
from raysim.privacy.secagg.exchange import KEYS, SHARES, UNMASKING, SecAgg, Unprotected
from raysim.privacy.secagg.keys import KEY_BYTES, SEED_BYTES, add_masks, check_installed, public_key
from raysim.privacy.secagg.peer import Peer, Terms, mask_sign, pair_mask
from raysim.privacy.secagg.words import NarrowPoint, formats, from_words, message_bytes, to_words, within, word_bits

Keys = list[tuple[bytes, int]]
"""Masks: their keys, and 1 where they are added, -1 where they are subtracted."""


class ModularSum(RunningSum):
    """A worker's running sum, whose integers are masked when it is sealed.

    Args:
        sender: the rule, in a lease of a round.
    """

    def __init__(
        self, round_number: int, sender: ModularMean, device: torch.device, buffers: Buffers | None, named: Named | None
    ) -> None:
        super().__init__(round_number, sender.fields, device, buffers, named)
        self._sender = sender

    def fold(self, positions: Int32 | Int64, weights: Float64, sent: Mapping[str, Tensor]) -> list[str | None]:
        peers = self._sender.peers
        reasons = [peers.gone.get(one) or peers.lost.get(one) for one in positions.tolist()]
        here = np.array([reason is None for reason in reasons], dtype=bool)
        if here.all():
            return super().fold(positions, weights, sent)
        rows = torch.from_numpy(np.flatnonzero(here)).to(self._device)
        rest = iter(super().fold(positions[here], weights[here], {name: one[rows] for name, one in sent.items()}))
        return [next(rest) if there else reason for there, reason in zip(here, reasons, strict=True)]

    def seal(self) -> PartialSum:
        return self._sender.masked(super().seal())

    def _add(
        self, field: Field, total: Tensor, values: Tensor, weights: Float64, positions: Int32 | Int64, *, fresh: bool
    ) -> None:
        if not isinstance(form := field.format, NarrowPoint):
            super()._add(field, total, values, weights, positions, fresh=fresh)
            return
        if fresh:
            total.zero_()
        for i in np.flatnonzero(weights).tolist():
            form.add_client(total, values[i], float(weights[i]), self._sender.rounding_key(int(positions[i]), field))

    def _beyond(self, field: Field, count: int) -> str | None:
        return (
            f"{field.name} has {count:,} values beyond ±{field.format.limit:.0f}, which have no room in a masked sum; "
            "scale features and targets, or clip"
        )


class ModularMean(WeightedMean):
    """The weighted mean, of integers that the server sees only as a sum over clients.

    With 64 bits the integers are those of `WeightedMean`.

    Attributes:
        peers: of the round, where this is the rule of a lease.
    """

    road = "modular"
    encodes: ClassVar[bool] = True

    def __init__(self, config: IntegersConfig, fields: Sequence[Field], columns: ModelColumns | None = None) -> None:
        """`columns` are those of the model, where they are known."""
        super().__init__(fields)
        self._config, self._sent, self._columns = config, self.fields, columns
        self.peers = Peers(np.empty(0, dtype=np.int64))
        self._seed, self._round = 0, 0
        self._integers: Integers = unchanged

    def among(self, peers: Peers, seed: int, round_number: int, integers: Integers) -> ModularMean:
        bound = type(self)(self._config, self._sent, self._columns)
        bound.protocol = self.protocol
        bound.fields = formats(self._config, self._sent, len(peers.clients))
        bound.peers, bound._seed, bound._round, bound._integers = peers, seed, round_number, integers
        return bound

    def accumulator(
        self, round_number: int, device: torch.device, buffers: Buffers | None = None, named: Named | None = None
    ) -> Accumulator:
        if not len(self.peers.clients):  # one that is only timed or looked at
            return RunningSum(round_number, self.fields, device, buffers, named)
        return ModularSum(round_number, self, device, buffers, named)

    def rounding_key(self, position: int, field: Field) -> tuple[int, int, int, int]:
        """What keys the rounding of a client's values of a field."""
        return self._seed, self._round, int(self.peers.clients[position]), self.fields.index(field)

    def masked(self, sums: PartialSum) -> PartialSum:
        """A sum as it leaves the clients: words modulo 2^bits with the masks of its clients on them."""
        clients = self.peers.clients[sums.positions]
        self._integers(dict(sums.totals), clients, self.fields, len(self.peers.clients))
        keys = [key for position in sums.positions.tolist() for key in self._masks(position)]
        weight = np.array([sums.weight], dtype=np.uint64)
        words = {field.name: to_words(sums.totals[field.name], word_bits(field)) for field in self.fields}
        self._add(weight, words, keys)
        return replace(sums, weight=int(weight[0]), totals=words)

    def opened(self, records: Sequence[Record], opening: SumOpening | None, seed: int) -> list[Record]:
        assert opening is not None, "the server asks for it before it applies a sum"
        rule = self.among(opening.peers, seed, records[0].round, unchanged)
        total = combine([one for one in records if isinstance(one, PartialSum)])
        weight = np.array([total.weight % 2**64], dtype=np.uint64)
        words = {name: one if len(records) > 1 else one.copy() for name, one in total.totals.items()}
        keys = rule._left_over(opening, set(total.positions.tolist()))
        rule._add(weight, words, [(key, -sign) for key, sign in keys])
        if int(weight[0]) > 2 * WEIGHT.scale:
            raise RunError(f"round {total.round}: secure aggregation: the sum does not open: masks are left on it")
        totals = {field.name: from_words(words[field.name], word_bits(field)) for field in rule.fields}
        return [replace(total, weight=int(weight[0]), totals=totals)]

    def finish(self, records: Sequence[Record], server: ServerView) -> Finished:
        sums = [one for one in records if isinstance(one, PartialSum)]
        opening = server.opening
        assert opening is not None
        fields = formats(self._config, self._sent, len(opening.peers.clients))
        return Finished(ColumnSums(sums), metrics=opening.metrics, fields=fields)

    def message_bytes(self, values: Sequence[int], round_number: int, clients: Int64) -> Int64:
        return np.full(len(clients), message_bytes(self.fields, values))

    def _masks(self, position: int) -> Keys:
        """The masks that the client at a position adds."""
        return []

    def _left_over(self, opening: SumOpening, arrived: set[int]) -> Keys:
        """The masks that are left on the sum of the clients at these positions."""
        return []

    def _add(self, weight: Array, words: Mapping[str, Array], keys: Keys) -> None:
        """Add masks to a sum's words in place."""
        if keys:
            add_masks(weight, 0, keys)
            for number, field in enumerate(self.fields, start=1):
                add_masks(words[field.name], number, keys)
        for field in self.fields:
            within(words[field.name], word_bits(field))


class UnmaskedMean(ModularMean):
    """The mean by the same integers, in the clear."""

    def __init__(self, config: UnmaskedConfig, fields: Sequence[Field], columns: ModelColumns | None = None) -> None:
        super().__init__(config, fields, columns)
        self.protocol = Unprotected(config)


class MaskedMean(ModularMean):
    """The mean by secure aggregation (Bonawitz et al. 2017; Bell et al. 2020)."""

    metrics = (KEYS, SHARES, UNMASKING)

    def __init__(self, config: MaskedConfig, fields: Sequence[Field], columns: ModelColumns | None = None) -> None:
        super().__init__(config, fields, columns)
        check_installed()
        self._terms: Terms = (protocol := SecAgg(config)).terms
        self.protocol = protocol

    def check(self, *, clients: int, validation: bool) -> None:
        if clients < 2:
            raise ConfigError(
                "aggregation.protection: in a cohort of one the sum is the record of that one; raise cohort, or set "
                "protection to none"
            )
        config = self._config
        if isinstance(config, SecAggPlusConfig) and (config.neighbours or 0) >= clients:
            raise ConfigError(
                f"aggregation.protection.neighbours: {config.neighbours} of a cohort of {clients}; expected fewer, or "
                "{name: secagg}, where all clients are neighbours"
            )

    def _masks(self, position: int) -> Keys:
        count, client = len(self.peers.clients), int(self.peers.clients[position])
        return list(Peer(self._terms, self._seed, self._round, count, position, client).masks(self.peers))

    def _left_over(self, opening: SumOpening, arrived: set[int]) -> Keys:
        """Of those whose record arrived the self mask, of the others the masks that they share with those."""
        keys = opening.peers.keys
        assert keys is not None
        graph = self._terms.graph(self._seed, self._round, len(keys))
        found: Keys = []
        for position, shares in opening.shares.items():
            secret = shamir.join(shares)
            if position in arrived:
                found.append((secret.to_bytes(shamir.SHARE_BYTES, "big")[-SEED_BYTES:], 1))
                continue
            text = secret.to_bytes(shamir.SHARE_BYTES, "big")[-KEY_BYTES:]
            if public_key(text) != keys[position, KEY_BYTES:].tobytes():
                raise RunError(
                    f"round {self._round}: secure aggregation: the shares of client {opening.peers.clients[position]} "
                    "give another key than it sent"
                )
            others = [one for one in graph.of(position).tolist() if one in arrived]
            found += [(pair_mask(text, keys[other]), mask_sign(other, position)) for other in others]
        return found


def unchanged(totals: Mapping[str, Array], clients: Int64, fields: Sequence[Field], cohort: int) -> None:
    """Leave sums as they are."""
