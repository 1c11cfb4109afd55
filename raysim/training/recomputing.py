"""Activation checkpointing: what submodules compute in the forward pass is computed anew in the backward pass.

Chen, Xu, Zhang & Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, by `torch.utils.checkpoint` without
re-entrance. Random numbers are drawn again as they were. Buffers are seen as they were, too, by copies, and what the
second pass does to them is undone: running statistics move once. Residuals are only read, and not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raysim.errors import ConfigError
from raysim.models.versioned import residual_names

Holders = Sequence[tuple[dict[str, Tensor | None], str]]

_SHOWN = 20
"""Names of submodules that an error lists."""


def recomputed(module: nn.Module, wanted: bool | Sequence[str]) -> list[str]:
    """Names of the submodules whose activations are computed anew.

    Args:
        wanted: globs of names, of which the outermost submodules count; True is what the module has in rows
            (`nn.ModuleList`), or, where there is no such row, its own children.

    Raises:
        ConfigError: a glob matches no submodule, or there is none.
    """
    names = [
        name for name, one in module.named_modules() if name and not isinstance(one, nn.ModuleList | nn.ModuleDict)
    ]
    if wanted is False:
        return []
    if wanted is True:
        rows = [name for name, one in module.named_modules() if isinstance(one, nn.ModuleList)]
        found = [name for name in names if name.rpartition(".")[0] in (rows or [""])]
        if not found:
            raise ConfigError("training.checkpointing: the model has no submodules; set it to false")
        return _outermost(found)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ConfigError(
                f"training.checkpointing: {pattern!r} matches no submodule; they are "
                f"{', '.join(names[:_SHOWN]) or 'none'}{more}"
            )
    return _outermost([name for name in names if any(fnmatchcase(name, pattern) for pattern in wanted)])


def recompute(module: nn.Module, wanted: bool | Sequence[str]) -> None:
    """Have these submodules compute anew what the backward pass needs, from now on (`recomputed`)."""
    for name in recomputed(module, wanted):
        one = module.get_submodule(name)
        one.forward = _recomputing(one, one.forward)


def copied_bytes(module: nn.Module, wanted: bool | Sequence[str]) -> int:
    """Bytes of the buffers that are copied in every forward pass, and kept until the backward pass."""
    holders = (one for name in recomputed(module, wanted) for one in _copied(module.get_submodule(name)))
    return sum(value.nbytes for held, key in holders if (value := held[key]) is not None)


def _copied(module: nn.Module) -> Holders:
    """Where the buffers are that a forward pass may change."""
    read = residual_names(module)
    return [
        (one._buffers, key)
        for prefix, one in module.named_modules()
        for key, value in one._buffers.items()
        if value is not None and f"{prefix}.{key}".lstrip(".") not in read
    ]


def _recomputing(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    holders = _copied(module)

    @wraps(forward)
    def run(*given: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*given, **named)
        if not holders:
            return checkpoint(forward, *given, use_reentrant=False, **named)
        return checkpoint(forward, *given, use_reentrant=False, context_fn=partial(_contexts, holders), **named)

    return run


def _contexts(holders: Holders) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around both passes: the second finds the buffers as the first did, and leaves them as they are."""
    found: list[Tensor | None] = []

    @contextmanager
    def first() -> Iterator[None]:
        found.extend(None if held[key] is None else held[key].clone() for held, key in holders)  # type: ignore[union-attr]  # just seen
        yield

    @contextmanager
    def second() -> Iterator[None]:
        now = [held[key] for held, key in holders]
        try:
            for (held, key), before in zip(holders, found, strict=True):
                held[key] = before
            yield
        finally:
            for (held, key), value in zip(holders, now, strict=True):
                held[key] = value

    return first(), second()


def _outermost(names: Sequence[str]) -> list[str]:
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
