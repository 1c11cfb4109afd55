"""What a local step keeps for its backward pass, found out on the meta device: no value is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from raysim.data import DataInfo
from raysim.models import Blueprint, Calling, exclusive_torch
from raysim.models.modes import TrainingModes
from raysim.training.batches import model_input
from raysim.training.losses import Loss
from raysim.training.recomputing import copied_bytes, recompute, recomputed
from raysim.training.trial import random_batch


class _Fused(torch.autograd.Function):
    """Attention without values, which keeps for its backward pass what a fused kernel keeps."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, out)
        return out


@contextmanager
def _fused_attention() -> Iterator[None]:
    kept = functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not query.is_meta:
            return kept(query, key, value, *args, **kwargs)
        found: Tensor = _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]  # torch has no type for it
        return found

    functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = kept


def activation_bytes(
    model: nn.Module,
    info: DataInfo,
    loss: Loss,
    samples: int,
    *,
    bf16: bool = False,
    checkpointing: bool | Sequence[str] = False,
) -> int | None:
    """Bytes of the tensors that are kept between the forward and the backward pass of a batch.

    Each memory counts once, and parameters and buffers not at all. `scaled_dot_product_attention` counts as a fused
    kernel that keeps its inputs and its output, and no scores; what a kernel needs while it runs is not counted.

    Args:
        model: on any device; left as it was.
        samples: of the batch.
        bf16: floats of the forward pass are kept in 16 bits.
        checkpointing: `training.checkpointing`. What is computed anew is counted once, as the mean of its parts, with
            the buffers that are copied for it.

    Returns:
        None where the model cannot be run without values.
    """
    try:
        whole = _kept(model, info, loss, samples, bf16, False)
        if checkpointing is False:
            return whole
        parts = len(recomputed(model, checkpointing))
        kept = _kept(model, info, loss, samples, bf16, checkpointing)
    except Exception:  # a module, or a loss, may need values, and fail without them in any way
        return None
    return kept + max(whole - kept, 0) // max(parts, 1) + copied_bytes(model, checkpointing)


def _kept(
    model: nn.Module, info: DataInfo, loss: Loss, samples: int, bf16: bool, checkpointing: bool | Sequence[str]
) -> int:
    module = Blueprint.of(model, calling=Calling.of(model, info)).on_meta()
    TrainingModes(module).train()
    own = {one.untyped_storage()._cdata for one in (*module.parameters(), *module.buffers())}
    x, y = (one.to("meta") for one in random_batch(info, samples))
    found: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if tensor.is_meta and memory._cdata not in own:
            halved = bf16 and tensor.dtype == torch.float32
            found[memory._cdata] = tensor, memory.nbytes() // (2 if halved else 1)
        return tensor

    def keep_inputs(layer: nn.Module, args: tuple[Any, ...]) -> None:
        for one in args:
            if isinstance(one, Tensor) and one.requires_grad:
                keep(one)

    for name in recomputed(module, checkpointing):
        module.get_submodule(name).register_forward_pre_hook(keep_inputs)
    recompute(module, checkpointing)
    with exclusive_torch(), _fused_attention(), saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(module(model_input(x, info)), y).mean()
    total = sum(nbytes for _, nbytes in found.values())
    del value
    return total
