"""Stages that look at the norm of what a client sends: set to zero, clip, measure.

A norm is that of all fields that depend on the client's data together, in float64, row by row, so that it does not
depend on how many rows are folded at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.contexts import Bound, MeanContext, SendContext
from raysim.aggregation.records import Field
from raysim.aggregation.stages import ModelColumns, UpdateStage
from raysim.arrays import Array, Bools, Float64

MARGIN = 1 - 2.0**-21
"""Rounding a scaled record to float32 adds at most 2^-23 of its norm; what is clipped stays below the bound."""


def norms(sent: Mapping[str, Tensor], fields: Sequence[str], order: int = 2) -> Float64:
    """The norm of each client's record over these fields, `[k]`; NaN or infinity where a value is not finite.

    Args:
        order: 2 for the L2 norm, 1 for the sum of magnitudes.
    """
    if order == 1:
        parts = [torch.stack([row.double().abs_().sum() for row in sent[name]]) for name in fields]
        sums: Float64 = torch.stack(parts).sum(0).cpu().numpy()
        return sums
    squares = [torch.stack([row.double().square_().sum() for row in sent[name]]) for name in fields]
    found: Float64 = np.sqrt(torch.stack(squares).sum(0).cpu().numpy())
    return found


def clip(sent: Mapping[str, Tensor], fields: Sequence[str], bound: float, order: int = 2) -> tuple[Float64, Bools]:
    """Scale the records with a larger norm down to the bound, in place; all norms as they were `[k]`, and which were
    scaled. A record that is not finite stays as it is: it is left out when it is folded."""
    norm = norms(sent, fields, order)
    long = np.isfinite(norm) & (norm > bound)
    for i in np.flatnonzero(long).tolist():
        for name in fields:
            sent[name][i].mul_(MARGIN * bound / float(norm[i]))
    return norm, long


class WithShare(UpdateStage):
    """Changes some of the clients' records; records the share of them, by weight."""

    roads = frozenset({"sum", "rows", "modular"})
    metrics = ("share",)

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        return (*sent, Field(f"{self.label}.share", 1, constant=True))

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        changed = self._change(sent, of_data(ctx.fields))
        return {**sent, f"{self.label}.share": column(changed, sent)}

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        rest, share = without(mean, f"{self.label}.share")
        return rest, state, {"share": share}

    def _change(self, sent: Mapping[str, Tensor], fields: Sequence[str]) -> Bools:
        """Change some records in place, in these fields; which ones `[k]`."""
        raise NotImplementedError


class Zero(WithShare):
    """Sets a client's record to zero where it is not finite, or longer than `max_norm`.

    The client counts with its weight: its update is zero instead of being left out.
    """

    def __init__(self, columns: ModelColumns, max_norm: float | None = None) -> None:
        super().__init__(columns)
        self._max_norm = np.inf if max_norm is None else max_norm
        if max_norm is not None:
            self.gives = frozenset({"bounded", "steady"})

    def bound(self, outer: Bound | None, server: Mapping[str, Any]) -> Bound | None:
        return outer if np.isinf(self._max_norm) else Bound(self._max_norm)

    def _change(self, sent: Mapping[str, Tensor], fields: Sequence[str]) -> Bools:
        norm = norms(sent, fields)
        chosen: Bools = ~(np.isfinite(norm) & (norm <= self._max_norm))
        for i in np.flatnonzero(chosen).tolist():
            for name in fields:
                sent[name][i].zero_()
        return chosen


class Clip(WithShare):
    """Scales a client's record down to a norm of at most `max_norm`: x ← x · min(1, max_norm / ‖x‖).

    McMahan, Ramage, Talwar & Zhang, "Learning Differentially Private Recurrent Language Models", ICLR 2018, section 2
    (flat clipping).
    """

    gives = frozenset({"bounded", "steady"})

    def __init__(self, columns: ModelColumns, max_norm: float, order: int = 2) -> None:
        super().__init__(columns)
        self._bound = Bound(max_norm, order)
        if order == 1:
            self.gives = frozenset({"bounded", "bounded_l1", "steady"})

    def bound(self, outer: Bound | None, server: Mapping[str, Any]) -> Bound:
        return self._bound

    def _change(self, sent: Mapping[str, Tensor], fields: Sequence[str]) -> Bools:
        return clip(sent, fields, self._bound.norm, self._bound.order)[1]


class Measure(UpdateStage):
    """Records the mean of the clients' norms, and the norm of their mean; changes nothing."""

    roads = frozenset({"sum", "rows", "modular"})
    columnwise = False
    observes = True
    metrics = ("norm", "mean_norm")

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        return (*sent, Field(f"{self.label}.norm", 1, constant=True))

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        return {**sent, f"{self.label}.norm": column(norms(sent, of_data(ctx.fields)), sent)}

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        rest, norm = without(mean, f"{self.label}.norm")
        square = sum(float(np.square(rest[name]).sum()) for name in of_data(ctx.fields))
        return rest, state, {"norm": norm, "mean_norm": float(np.sqrt(square))}


def of_data(fields: Sequence[Field]) -> list[str]:
    """Names of the fields that depend on the client's data."""
    return [field.name for field in fields if not field.constant]


def column(values: Array, sent: Mapping[str, Tensor]) -> Tensor:
    """Values `[k]` as a field `[k, 1]` beside the others."""
    like = next(iter(sent.values()))
    return torch.from_numpy(values.astype(np.float32)[:, None]).to(like.device)


def without(mean: Mapping[str, Float64], name: str) -> tuple[dict[str, Float64], float]:
    """The mean without a field of one value, and that value."""
    return {field: values for field, values in mean.items() if field != name}, float(mean[name][0])
