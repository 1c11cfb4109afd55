"""Stages that look at the norm of what a client sends: set to zero, clip, measure.

A norm is that of all fields that depend on the client's data together, in float64, row by row, so that it does not
depend on how many rows are folded at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.records import Field
from raysim.aggregation.stages import MeanContext, ModelColumns, SendContext, UpdateStage
from raysim.arrays import Array, Bools, Float64

_MARGIN = 1 - 2.0**-21
"""Rounding a scaled record to float32 adds at most 2^-23 of its norm; what is clipped stays below the bound."""


def norms(sent: Mapping[str, Tensor], fields: Sequence[str]) -> Float64:
    """The L2 norm of each client's record over these fields, `[k]`; NaN or infinity where a value is not finite."""
    squares = [torch.stack([row.double().square_().sum() for row in sent[name]]) for name in fields]
    found: Float64 = np.sqrt(torch.stack(squares).sum(0).cpu().numpy())
    return found


class _ByNorm(UpdateStage):
    """Changes some of the clients' records, by their norms; records the share of them."""

    metrics = ("share",)

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        return (*sent, Field(f"{self.label}.share", 1, constant=True))

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        names = _of_data(ctx.fields)
        norm = norms(sent, names)
        chosen = self._chosen(norm)
        for i in np.flatnonzero(chosen).tolist():
            for name in names:
                self._change(sent[name][i], float(norm[i]))
        return {**sent, f"{self.label}.share": _column(chosen, sent)}

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        rest, share = _without(mean, f"{self.label}.share")
        return rest, state, {"share": share}

    def _chosen(self, norm: Float64) -> Bools:
        """Which records to change `[k]`, by their norms `[k]`."""
        raise NotImplementedError

    def _change(self, row: Tensor, norm: float) -> None:
        """Change a field of one of them in place, given the norm of its record."""
        raise NotImplementedError


class Zero(_ByNorm):
    """Sets a client's record to zero where it is not finite, or longer than `max_norm`.

    The client counts with its weight: its update is zero instead of being left out.
    """

    def __init__(self, columns: ModelColumns, max_norm: float | None = None) -> None:
        super().__init__(columns)
        self._max_norm = np.inf if max_norm is None else max_norm
        if max_norm is not None:
            self.gives = frozenset({"bounded"})

    def _chosen(self, norm: Float64) -> Bools:
        return ~(np.isfinite(norm) & (norm <= self._max_norm))

    def _change(self, row: Tensor, norm: float) -> None:
        row.zero_()


class Clip(_ByNorm):
    """Scales a client's record down to an L2 norm of at most `max_norm`: x ← x · min(1, max_norm / ‖x‖).

    McMahan, Ramage, Talwar & Zhang, "Learning Differentially Private Recurrent Language Models", ICLR 2018, section 2
    (flat clipping).
    """

    gives = frozenset({"bounded"})

    def __init__(self, columns: ModelColumns, max_norm: float) -> None:
        super().__init__(columns)
        self._max_norm = max_norm

    def _chosen(self, norm: Float64) -> Bools:
        return np.isfinite(norm) & (norm > self._max_norm)  # what is not finite is left out when it is folded

    def _change(self, row: Tensor, norm: float) -> None:
        row.mul_(_MARGIN * self._max_norm / norm)


class Measure(UpdateStage):
    """Records the mean of the clients' norms, and the norm of their mean; changes nothing."""

    columnwise = False
    metrics = ("norm", "mean_norm")

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        return (*sent, Field(f"{self.label}.norm", 1, constant=True))

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        return {**sent, f"{self.label}.norm": _column(norms(sent, _of_data(ctx.fields)), sent)}

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        rest, norm = _without(mean, f"{self.label}.norm")
        square = sum(float(np.square(rest[name]).sum()) for name in _of_data(ctx.fields))
        return rest, state, {"norm": norm, "mean_norm": float(np.sqrt(square))}


def _of_data(fields: Sequence[Field]) -> list[str]:
    """Names of the fields that depend on the client's data."""
    return [field.name for field in fields if not field.constant]


def _column(values: Array, sent: Mapping[str, Tensor]) -> Tensor:
    """Values `[k]` as a field `[k, 1]` beside the others."""
    like = next(iter(sent.values()))
    return torch.from_numpy(values.astype(np.float32)[:, None]).to(like.device)


def _without(mean: Mapping[str, Float64], name: str) -> tuple[dict[str, Float64], float]:
    """The mean without a field of one value, and that value."""
    return {field: values for field, values in mean.items() if field != name}, float(mean[name][0])
