"""Clipping of each layer by itself.

McMahan, Ramage, Talwar & Zhang, "Learning Differentially Private Recurrent Language Models", ICLR 2018, section 2
(per-layer clipping).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Bound, Field
from raysim.aggregation.norms import MARGIN, WithShare
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Bools
from raysim.errors import ConfigError

Spans = list[slice]


class LayerClip(WithShare):
    """Scales the update of each layer, or group of layers, down to an L2 norm S_g, so that of the whole it is at most
    √(Σ S_g²).

    Records the share of clients of whom some layer was scaled.
    """

    gives = frozenset({"bounded", "steady"})

    def __init__(
        self, columns: ModelColumns, max_norm: float | None = None, bounds: Mapping[str, float] | None = None
    ) -> None:
        """Bounds of groups, by patterns of parameter names, or an equal share S / √L for each of the L parameters.

        Raises:
            ConfigError: both or none are given; a parameter matches no pattern; a pattern no parameter left.
        """
        super().__init__(columns)
        if (max_norm is None) == (not bounds):
            raise ConfigError("expected max_norm, for all layers alike, or bounds, by patterns of their names")
        self._groups = _groups(columns, max_norm, bounds or {})
        self._norm = sqrt(sum(bound**2 for bound, _ in self._groups)) if max_norm is None else max_norm

    def bound(self, outer: Bound | None, server: Mapping[str, Any]) -> Bound:
        return Bound(self._norm)

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        for field in sent:
            if not field.constant and field.size != self.columns.size:
                raise ConfigError(f"{field.name!r} has no layers of the model; use clip, or another algorithm")
        if sum(not field.constant for field in sent) > 1:
            raise ConfigError("clients send several vectors, which clip bounds together; use clip")
        return super().fields(sent)

    def _change(self, sent: Mapping[str, Tensor], fields: Sequence[str]) -> Bools:
        (name,) = fields
        changed = np.zeros(len(sent[name]), dtype=np.bool_)
        for bound, spans in self._groups:
            for i, row in enumerate(sent[name]):
                norm = float(torch.stack([row[span].double().square_().sum() for span in spans]).sum().sqrt())
                if norm > bound and np.isfinite(norm):
                    changed[i] = True
                    for span in spans:
                        row[span].mul_(MARGIN * bound / norm)
        return changed


def _groups(columns: ModelColumns, max_norm: float | None, bounds: Mapping[str, float]) -> list[tuple[float, Spans]]:
    """The bound of each group, and the columns of its parameters."""
    spans = {one.name: slice(one.start, one.start + one.size) for one in columns.segments}
    if max_norm is not None:
        return [(max_norm / sqrt(len(spans)), [span]) for span in spans.values()]
    found: list[tuple[float, Spans]] = []
    for pattern, bound in bounds.items():
        names = [name for name in spans if fnmatchcase(name, pattern)]
        if not names:
            raise ConfigError(f"bounds: {pattern!r} matches no parameter that is left; there are {', '.join(spans)}")
        found.append((bound, [spans.pop(name) for name in names]))
    if spans:
        raise ConfigError(f"bounds: {next(iter(spans))!r} matches no pattern; add one, such as '*'")
    return found
