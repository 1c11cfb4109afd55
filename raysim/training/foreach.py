"""Operations on many tensors in one call. They are private in torch: a release without them works tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def copy_one_by_one(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy each value into the tensor at its place."""
    for one, value in zip(into, values, strict=True):
        one.copy_(value)


def add_one_by_one(into: Sequence[Tensor], values: Sequence[Tensor], alpha: float = 1) -> None:
    """Add each value, times `alpha`, to the tensor at its place."""
    for one, value in zip(into, values, strict=True):
        one.add_(value, alpha=alpha)


copy_each: Callable[..., None] = getattr(torch, "_foreach_copy_", copy_one_by_one)
add_each: Callable[..., None] = getattr(torch, "_foreach_add_", add_one_by_one)
