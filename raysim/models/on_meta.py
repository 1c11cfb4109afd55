"""Modules on the meta device, which have shapes and no values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def on_meta() -> Iterator[None]:
    """Modules that are made inside the block are on the meta device, where no values are drawn."""
    with torch.device("meta"), _Undrawn():
        yield


def emptied(tensor: Tensor) -> Tensor:
    """A tensor, or a parameter, on the meta device."""
    plain = type(tensor) in (Tensor, nn.Parameter)  # `empty_like` would import what torch draws symbols with
    empty = tensor.detach().to("meta") if plain else torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


class _Undrawn(TorchFunctionMode):
    """Leaves out the draw of normal values, for which torch imports its compiler: more than a second."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
