"""Pairs of LoRA in a layout, found by name, and the ranks that clients have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.arrays import Int64
from raysim.config.adapters import AdaptersConfig
from raysim.errors import ConfigError
from raysim.training import ParameterLayout, Segment

_DOWN = re.compile(r"(?:(?P<layer>.+)\.)?lora_A(?P<adapter>\.(?!weight$)[^.]+)?(?P<leaf>\.weight)?")


@dataclass(frozen=True, slots=True)
class LoraPair:
    """An adapter of a linear layer, which adds s B A x; and the version of the layer's base.

    Attributes:
        layer: its name in the module.
        down: A, `[r, d_in]`.
        up: B, `[d_out, r]`.
        residual: R, `[d_out, d_in]`, where the base has versions (`raysim.models.versioned`).
    """

    layer: str
    down: Segment
    up: Segment
    residual: Segment | None = None

    @property
    def rank(self) -> int:
        """r."""
        return self.down.shape[0]

    @property
    def inputs(self) -> int:
        """d_in."""
        return self.down.shape[1]

    @property
    def outputs(self) -> int:
        """d_out."""
        return self.up.shape[0]

    def factors(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """A and B of a vector `[P]`, as views."""
        return part(row, self.down), part(row, self.up)


def part(row: Tensor, segment: Segment) -> Tensor:
    """The values of one parameter or buffer in a vector `[P]`, as a view."""
    return row[segment.start : segment.start + segment.size].view(segment.shape)


def lora_pairs(layout: ParameterLayout, algorithm: str) -> tuple[LoraPair, ...]:
    """The pairs of LoRA in a layout, by their parameters' names.

    Raises:
        ConfigError: there is none, or one without its other half, or of a layer that is not linear.
    """
    by_name = {segment.name: segment for segment in layout.segments}
    pairs = []
    for down in layout.parameters:
        found = _DOWN.fullmatch(down.name)
        if found is None:
            continue
        layer = found["layer"] or ""
        dot = f"{layer}." if layer else ""
        up = by_name.get(f"{dot}lora_B{found['adapter'] or ''}{found['leaf'] or ''}")
        if up is None or len(down.shape) != 2 or len(up.shape) != 2 or up.shape[1] != down.shape[0]:
            has = "none" if up is None else f"{up.name} {list(up.shape)}"
            raise ConfigError(
                f"algorithm: {algorithm} is for pairs lora_A [r, d_in], lora_B [d_out, r] of linear layers, both of "
                f"which train; beside {down.name} {list(down.shape)} there is {has}; adapt linear layers"
            )
        residual = by_name.get(f"{dot}base_layer.residual") or by_name.get(f"{dot}residual")
        pairs.append(LoraPair(layer, down, up, residual))
    if not pairs:
        raise ConfigError(
            f"algorithm: {algorithm} finds no LoRA pair in the model, which trains "
            f"{', '.join(one.name for one in layout.parameters[:8])}; add adapters, e.g. model: mlp_lora, or use fedavg"
        )
    return tuple(pairs)


def unpaired(layout: ParameterLayout, pairs: Sequence[LoraPair]) -> str | None:
    """The name of a parameter of LoRA that belongs to no pair, but to an embedding, say; None: there is none."""
    known = {one.name for pair in pairs for one in (pair.down, pair.up)}
    of_lora = (one.name for one in layout.parameters if "lora_" in one.name and not one.name.endswith(".bias"))
    return next((name for name in of_lora if name not in known), None)


def columns(segments: Sequence[Segment]) -> Int64:
    """The columns of some segments, in their order."""
    return np.concatenate([np.empty(0, np.int64), *(np.arange(s.start, s.start + s.size) for s in segments)])


class ClientRanks:
    """Which rank the adapters of a client have.

    Args:
        config: whose ranks are given.
    """

    def __init__(self, config: AdaptersConfig) -> None:
        assert config.ranks is not None, "clients have ranks of their own"
        self.ranks = np.array(config.ranks, dtype=np.int64)
        self._seed, self._ends = config.seed, None if config.shares is None else np.cumsum(config.shares)

    def of(self, clients: Int64) -> Int64:
        """The ranks of clients `[k]`, int64 `[k]`."""
        if self._ends is None:
            found: Int64 = self.ranks[clients % len(self.ranks)]
            return found
        assert self._seed is not None, "made concrete where the experiment is known"
        drawn = keyed.uniform(self._seed, keyed.Purpose.RANKS, clients)
        return self.ranks[np.minimum(np.searchsorted(self._ends, drawn, side="right"), len(self.ranks) - 1)]


def truncate(rows: Tensor, ranks: Int64, pairs: Sequence[LoraPair]) -> None:
    """Zero what rows `[k, P]` have of A and B beyond the ranks of their clients `[k]`, in place."""
    for i, rank in enumerate(ranks.tolist()):
        for pair in pairs:
            if rank < pair.rank:
                down, up = pair.factors(rows[i])
                down[rank:].zero_()
                up[:, rank:].zero_()


def products(rows: Tensor, pairs: Sequence[LoraPair]) -> Tensor:
    """B A of every pair in rows `[k, P]`, `[k, Σ d_out d_in]`, each row by itself in float64."""
    found = rows.new_empty((len(rows), sum(pair.outputs * pair.inputs for pair in pairs)))
    for i, row in enumerate(rows):
        start = 0
        for pair in pairs:
            down, up = (one.double() for one in pair.factors(row))
            size = pair.outputs * pair.inputs
            found[i, start : start + size] = torch.mm(up, down).flatten()
            start += size
    return found
