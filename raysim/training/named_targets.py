"""Targets by name, out of the one array that holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raysim.data.named_targets import TargetField


def by_name(target: Tensor, fields: Sequence[TargetField]) -> dict[str, Tensor]:
    """The targets `[n, *shape]` by name, float32, int64 or bool, given `[n, width]`."""
    found = {}
    for field in fields:
        values = target[:, field.start : field.start + field.width].reshape(-1, *field.shape)
        found[field.name] = values.long() if field.kind == "integers" else values
        if field.kind == "flags":
            found[field.name] = values != 0
    return found


@dataclass(frozen=True, slots=True)
class OfNamedTargets:
    """A loss of the user's own that is given several targets by name."""

    loss: Callable[[Any, Any], Tensor]
    fields: tuple[TargetField, ...]

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        """Losses of samples, or one of the batch."""
        return self.loss(output, by_name(target, self.fields))
