"""What clients send, folded into one record a lease: which clients count, with what weight, and why others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import FULL, Accumulator, Aggregation, Buffers, Discount, Field, Record, SendContext
from raysim.arrays import Float64, Int64
from raysim.errors import UserCodeError
from raysim.rounds.faults import client_error
from raysim.rounds.lease import Lease
from raysim.training import ParameterLayout, to_device
from raysim.user_code import passes


class Folding:
    """Opens an accumulator for each lease; keeps nothing between leases but memory to use again.

    Args:
        aggregation: how records become one.
        layout: of the model, whose parameters are named where a client is left out.
        device: of the rows.
        seed: of the experiment.
        discount: of old updates.

    Attributes:
        protocol: of the rule.
    """

    def __init__(
        self,
        aggregation: Aggregation,
        layout: ParameterLayout,
        device: torch.device,
        seed: int,
        discount: Discount = FULL,
    ) -> None:
        self._aggregation, self._layout, self._device, self._seed = aggregation, layout, device, seed
        self._discount = discount
        self.protocol = aggregation.rule.protocol
        self._buffers = Buffers()

    def of(self, lease: Lease, server: Mapping[str, Tensor] = MappingProxyType({})) -> list[LeaseFold]:
        """An empty fold for each step that takes in some of a lease's clients, ascending.

        Args:
            server: the vectors of the server that stages may read, by name.
        """
        steps = lease.steps_into
        if len(steps) == 1:
            return [self._of(lease, steps[0], server)]
        places = [np.flatnonzero(lease.into == into) for into in steps]
        return [self._of(lease.only(at), into, server, at) for into, at in zip(steps, places, strict=True)]

    def _of(self, lease: Lease, into: int, server: Mapping[str, Tensor], places: Int64 | None = None) -> LeaseFold:
        given = lease.clients, lease.steps
        context = SendContext(self._seed, into, *given, server=server, total=lease.total, turn=lease.turn)
        aggregation = self._aggregation.in_lease(context, lease.peers)
        accumulator = aggregation.rule.accumulator(into, self._device, self._buffers, self._named)
        factor = self._discount.of(into - lease.round)
        return LeaseFold(lease, aggregation, accumulator, self._device, context, places, factor)

    def _named(self, field: Field, column: int) -> str:
        """The parameter that a column of a field belongs to, where the field has those of the model."""
        return self._layout.name_at(column) if field.size in (self._layout.size, self._layout.trainable) else ""


class LeaseFold:
    """The clients of a lease that one step takes in, folded block by block.

    Attributes:
        lease: of these clients alone.
        places: of each in the whole lease, `[n]`; None where they are all of it.
        dropped: for each client of the lease None, or why it was left out.
        weights: of each, `[n]`, not normalised; 0 for those that were left out.
        wire_up: bytes that each client would have sent, `[n]`, those that were left out included.
        wire_down: bytes of the model that each would have been sent, `[n]`, where a stage says; else 0.
    """

    def __init__(
        self,
        lease: Lease,
        aggregation: Aggregation,
        accumulator: Accumulator,
        device: torch.device,
        context: SendContext,
        places: Int64 | None = None,
        factor: float = 1.0,
    ) -> None:
        """`factor` is on what they send, beside their weights."""
        self.lease, self.places, self._factor = lease, places, factor
        count = len(lease.clients)
        self.dropped: list[str | None] = [None] * count
        self.weights: Float64 = np.zeros(count)
        self.wire_up: Int64 = np.zeros(count, dtype=np.int64)
        self.wire_down: Int64 = np.zeros(count, dtype=np.int64)
        self._aggregation, self._accumulator = aggregation, accumulator
        self._device, self._context = device, context

    def fold(
        self,
        block: slice,
        factors: Float64,
        sent: Mapping[str, Tensor],
        state: Tensor | None = None,
        kept: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Int64:
        """Add the records of a block.

        Args:
            block: places among its clients, of k of them.
            factors: on the clients' weights, `[k]`; one that is not finite drops its client.
            sent: for each field a float32 tensor `[k, size]`.
            state: what the clients keep, `[k, S]`; one that is not finite drops its client.
            kept: views of it by name; those of stages are changed in place.

        Returns:
            Places in the block of the clients that count.

        Raises:
            ClientError: what the algorithm sends is not what it declares, or cannot be added up.
        """
        lease = self.lease
        weights = lease.weights[block] * factors
        try:
            _check_sent(sent)
            clients, steps, turn = lease.clients[block], lease.steps[block], lease.turn[block]
            own = replace(self._context, clients=clients, steps=steps, turn=turn, state=kept)
            sent, wire = self._aggregation.client(sent, own)
            if self._factor != 1.0:
                sent = self._discounted(sent)
            reasons = self._reasons(block, weights, sent, state)
        except BaseException as error:
            users = isinstance(error, UserCodeError)
            if passes(error) and not users:
                raise
            raise client_error(lease.clients[block], lease.round, error) from (error.__cause__ if users else error)
        counted = np.flatnonzero([reason is None for reason in reasons])
        self.dropped[block] = reasons
        self.weights[block][counted] = weights[counted]
        self.wire_up[block] = wire.up
        if wire.down is not None:
            self.wire_down[block] = wire.down
        return counted

    def seal(self) -> Record:
        """The lease's record; nothing may be folded afterwards."""
        return self._accumulator.seal()

    def _discounted(self, sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What they send, scaled, but for numbers about their work or data."""
        whole = {one.name for one in self._aggregation.rule.fields if one.statistic or one.constant}
        return {name: rows if name in whole else rows * self._factor for name, rows in sent.items()}

    def _reasons(
        self, block: slice, weights: Float64, sent: Mapping[str, Tensor], state: Tensor | None
    ) -> list[str | None]:
        """Fold the block; why clients were left out."""
        positions, known = self.lease.positions[block], np.isfinite(weights)
        sound = known if state is None else known & state.isfinite().all(dim=1).cpu().numpy()
        if sound.all():
            return self._accumulator.fold(positions, weights, sent)
        rows = to_device(np.flatnonzero(sound), self._device)
        some = {name: tensor[rows] for name, tensor in sent.items()}
        reasons = iter(self._accumulator.fold(positions[sound], weights[sound], some))
        blame = {False: "its loss under the broadcast model is not finite", True: "what it keeps is not finite"}
        return [next(reasons) if fine else blame[bool(known[i])] for i, fine in enumerate(sound)]


def fold_block(
    folds: Sequence[LeaseFold],
    block: slice,
    factors: Float64,
    sent: Mapping[str, Tensor],
    state: Tensor | None = None,
    kept: Mapping[str, Tensor] = MappingProxyType({}),
) -> Int64:
    """Add the records of a block of a lease, each to the fold of its step; otherwise as `LeaseFold.fold`.

    Args:
        block: places in the lease.
    """
    if len(folds) == 1:
        return folds[0].fold(block, factors, sent, state, kept)
    assert state is None, "clients keep nothing where their rounds overlap"
    counted: list[Int64] = []
    for fold in folds:
        assert fold.places is not None, "several folds have a part each"
        low, high = np.searchsorted(fold.places, (block.start, block.stop)).tolist()
        if low < high:
            own = fold.places[low:high] - block.start
            rows = to_device(own, next(iter(sent.values())).device)
            some = {name: values[rows] for name, values in sent.items()}
            counted.append(own[fold.fold(slice(low, high), factors[own], some)])
    return np.sort(np.concatenate(counted))


def _check_sent(sent: Mapping[str, Tensor]) -> None:
    if not isinstance(sent, Mapping) or not all(isinstance(one, Tensor) for one in sent.values()):
        what = {name: type(one).__name__ for name, one in sent.items()} if isinstance(sent, Mapping) else type(sent)
        raise TypeError(f"the algorithm's send returned {what}; expected a tensor for each of its fields by name")
